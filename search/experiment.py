"""Run an experiment from start to end: prepare data and workers, tune the stages, write the best model in time."""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack
from functools import partial

from data.data_module import DataModule
from data.pack.shards import build_record_type
from data.runtime.cli import format_count
from data.runtime.storage import StorageError, join, split
from models.cost import Throughput, measure_reference_ms
from search.config.budget import Budget, check_time_left, describe_slow_start, plan_deadlines
from search.config.constraints import Constraints
from search.config.options import RunOptions
from search.config.recipes import list_tried_first
from search.config.stages import KEPT_CHECKPOINTS, Stage
from search.output.finalize import FinalModels, NoModelError, describe_front, report_best
from search.records.console import RunConsole, list_dashboards
from search.records.disk import DiskFullError, check_disk, find_full_disk, list_causes
from search.records.mirror import CHECKPOINTS
from search.records.prometheus import PrometheusExporter
from search.records.run_dir import claim, format_resume_command, read_lines, shorten
from search.records.run_state import RunState
from search.records.tensorboard import TensorBoard, TrialLogger
from search.records.trials import TrialTable
from search.study.dashboard import StageStudies
from search.study.space_settings import read_space
from search.training.throughput import measure_gpu_mib, measure_throughput
from search.tuning.allocation import WEIGHT_COPIES, count_trainings, describe_speeds, find_slowest
from search.tuning.interrupt import LATE_S, Interrupt, RunInterruptedError
from search.tuning.ray import session
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.nodes import check_nodes
from search.tuning.ray.resources import Cluster
from search.tuning.ray.scheduler import StageScheduler
from search.tuning.ray.searchers import StageChain
from search.tuning.ray.trackers import Tracker
from search.tuning.ray.tune import RecordCallback, run_experiment
from search.tuning.resume import resume_trials
from search.tuning.stage_runner import StageFailedError, StageRunner
from search.tuning.stage_setup import RunSetup

__all__ = ["Experiment", "NoModelError", "RunInterruptedError", "StageFailedError"]

LARGE_NETWORK = 10**6  # parameters of the network assumed for the disk space; the dry run samples networks instead
PACK_FIRST = 0.05  # fraction of the budget for packing images before anything else starts


class Experiment:
    """One process of a new or resumed run; `starting` resolves to the cluster, `discard` is for CheckpointStore."""

    def __init__(
        self,
        options: RunOptions,
        data_module: DataModule,
        console: RunConsole,
        starting: Future[Cluster],
        run_state: RunState,
        table: TrialTable,
        discard: Callable[[Callable[[], None]], None],
    ) -> None:
        self.options, self.data_module, self.console, self.starting = options, data_module, console, starting
        self.run_state, self.table, self.folder = run_state, table, run_state.folder
        self.stages: tuple[Stage, ...] = ()  # known after the speed has been measured
        place = join(options.storage, CHECKPOINTS) if options.storage else self.folder / CHECKPOINTS
        self.checkpoints = CheckpointStore(place, seed=options.seed, objectives=options.objectives, discard=discard)
        self.stage_studies = StageStudies(self.folder, table)
        self.tracker: Tracker | None = None
        self.interrupt = Interrupt(run_state, console)
        data_module.show = console.show_progress

    def run(self) -> None:
        """Run all stages and write the best model.

        Raise RunInterruptedError if the user stopped the run, StageFailedError if every trial of a stage failed,
        NoModelError without any model, and DiskFullError or StorageError, after which the state of the run is "stopped"
        too.
        """
        self.interrupt.listen()
        with ExitStack() as cleanup:
            cleanup.callback(self.interrupt.watch())
            cleanup.callback(session.stop)
            cleanup.callback(self._release_ray)
            try:
                setup = self._prepare(cleanup)
                self._tune(setup)
                self._finalize(setup.budget)
            except BaseException as error:
                full = find_full_disk(error, self.folder)
                storage = next((cause for cause in list_causes(error) if isinstance(cause, StorageError)), None)
                stopped = full or storage or isinstance(error, RunInterruptedError)
                self.run_state.end("stopped" if stopped else "failed")
                if full:
                    raise DiskFullError(full) from error
                if storage:
                    raise storage from None  # Ray Tune raises its own error instead
                raise

    def _release_ray(self) -> None:
        """Stop checking whether Ray answers, then wait until Ray has started, so that it can be shut down."""
        self.interrupt.servers = ()
        wait([self.starting])

    def _prepare(self, cleanup: ExitStack) -> RunSetup:
        """Pack the data while Ray starts, measure the machine and plan the stages; only then claim the run folder."""
        budget = self._as_wall_time()
        if budget.wall_s:
            self.interrupt.deadline = max(self.run_state.began + budget.wall_s, time.monotonic()) + LATE_S
        self._pack_data(budget)
        cluster, throughput = self._measure_cluster()
        slow_start = describe_slow_start(budget, earlier_s=self.run_state.earlier_s, used_s=self.run_state.used_s)
        self.run_state.devices = {"cpu": cluster.cpus, "gpu": cluster.gpus}
        self.stages = self._build_stages(budget, cluster.share(throughput, cluster.workers), cluster.workers)
        if self.run_state.earlier:
            resume_trials(
                self.stages, self.run_state, self.table, self.checkpoints, self.data_module, self.console.print
            )
        else:
            check_time_left(budget, used_s=self.run_state.used_s)
            cleanup.enter_context(claim(self.folder))
        self._announce(cluster, slow_start)
        setup = self._build_setup(budget, cluster, throughput)
        self._record_start(setup)
        self._compare_disk(setup)
        self._start_exports(budget, cleanup)
        return setup

    def _pack_data(self, budget: Budget) -> None:
        """Pack images for a part of the budget, and print the warnings about them."""
        until = budget.wall_s and time.monotonic() + PACK_FIRST * budget.wall_s
        self.data_module.prepare_data(self.options.px, deadline=until)
        left_out = self.data_module.left_out.describe()
        for line in [*([f"left out: {left_out}"] if left_out else []), *self.data_module.list_warnings()]:
            self.console.print(line, style="yellow")

    def _measure_cluster(self) -> tuple[Cluster, Throughput]:
        """Wait for Ray, check the nodes and measure their speed; return the cluster and the slowest node's speed."""
        cluster = self.starting.result()
        self.interrupt.listen()  # Ray has replaced the signal handlers
        if not cluster.local:
            check_nodes(self.folder, self.options.storage)
        self.interrupt.servers = cluster.servers
        speeds = cluster.call_each(measure_throughput, 1, "cuda" if cluster.gpus else "cpu")
        throughput = find_slowest(speeds)
        if cluster.gpus:
            cluster = cluster.share_gpus(throughput, min(cluster.call_each(measure_gpu_mib).values()))
        if line := describe_speeds(speeds):
            self.console.print(line, style="yellow")
        return cluster, throughput

    def _announce(self, cluster: Cluster, slow_start: str) -> None:
        """Print the run folder and the commands that resume the run and show it in a browser."""
        lines = [f"run folder {shorten(self.folder)}", f"resume    {format_resume_command(self.folder)}"]
        lines += [f"storage   {self.options.storage} (to resume on another machine)"] * bool(self.options.storage)
        lines += list_dashboards(self.folder, searches=not self.options.configs, ray=cluster.dashboard)
        for line in lines:
            self.console.print(line, whole=True)
        if slow_start:
            longer = f"to train longer afterwards: {format_resume_command(self.folder)} --budget 10m"
            self.console.print(f"{slow_start}; {longer}", whole=True)

    def _build_setup(self, budget: Budget, cluster: Cluster, throughput: Throughput) -> RunSetup:
        options = self.options
        timed = "max_latency_ms" in options.limits or "latency_ms" in options.objectives
        idle_ms = measure_reference_ms() if timed else None  # nothing is training yet
        return RunSetup(
            data_module=self.data_module,
            cluster=cluster,
            throughput=throughput,
            budget=budget,
            deadlines=self._plan_deadlines(budget),
            seed=options.seed,
            constraints=Constraints(px=self.stages[-1].px, idle_ms=idle_ms, **options.limits),
            sampler=options.sampler,
            space=read_space(options.space, options.encoder_weights),
            tried_first=list_tried_first(
                options.first, trainings=self.run_state.trainings, drawn=self.data_module.dataset.drawn
            ),
            encoder=options.encoder_weights.path if options.encoder_weights else None,
            storage=split(options.storage)[0] if options.storage else None,
        )

    def _build_stages(self, budget: Budget, each: Throughput, workers: int) -> tuple[Stage, ...]:
        """Return the stages for the run's first budget, because all trials of a stage must be comparable."""
        trainings = count_trainings(budget.wall_s, each, workers=workers, px=self.options.px)
        if trainings is not None and not self.run_state.earlier:
            self.run_state.trainings = float(f"{trainings:.3g}")
        return self.options.build_stages(self.run_state.trainings)

    def _compare_disk(self, setup: RunSetup) -> None:
        """Warn if the images and weights of the run may need more disk than is free."""
        sizes = [(stage.px, *self.data_module.count_stage_images(stage.fraction)) for stage in self.stages]
        images = sum((train + val) * build_record_type(px).itemsize for px, train, val in set(sizes))
        kept = 2 * KEPT_CHECKPOINTS + 2 * setup.cluster.workers * WEIGHT_COPIES
        if warning := check_disk(images + kept * 4 * LARGE_NETWORK, self.folder):
            self.console.print(warning, style="yellow")

    def _as_wall_time(self) -> Budget:
        """Return the budget; device hours become wall time, divided over the devices of the cluster."""
        budget, run_state = self.options.budget, self.run_state
        if budget.device_s is None:
            return budget
        cluster = self.starting.result()
        devices = {"cpu": cluster.cpus, "gpu": cluster.gpus}
        return budget.as_wall_time(devices=devices, used_s=run_state.earlier_s, used=run_state.earlier_device_s)

    def _start_exports(self, budget: Budget, cleanup: ExitStack) -> None:
        """Export trials to the tracker of --track and metrics to Prometheus until the run ends."""
        if self.options.track:
            self.tracker = Tracker(self.options.track, self.folder, partial(self.console.print, style="yellow"))
            cleanup.callback(self.tracker.close)
        cleanup.enter_context(PrometheusExporter(self.folder.name, self.table, lambda: self._get_spent_share(budget)))

    def _get_spent_share(self, budget: Budget) -> float:
        """Return the spent fraction of the budget; called by another thread than the one that adds records."""
        trials = sum(record.stage == self.stages[0].name for record in list(self.table.records.values()))
        return self.run_state.used_s / budget.wall_s if budget.wall_s else trials / (budget.trials or 1)

    def _plan_deadlines(self, budget: Budget) -> dict[str, float] | None:
        """Return the deadlines of the stages: the recorded ones, unless the run is new or its budget has changed."""
        if budget.wall_s is None:
            return None
        began, recorded = self.run_state.began, self.run_state.deadlines
        if recorded is not None and abs(recorded["end"] - budget.wall_s) < 1:
            return {name: began + end_s for name, end_s in recorded.items() if name != "end"}
        shares = {stage.name: stage.share for stage in self.stages}
        deadlines = plan_deadlines(start=began, wall_s=budget.wall_s, shares=shares)
        relative = {name: round(end - began, 2) for name, end in deadlines.items()}
        self.run_state.deadlines = {**relative, "end": round(budget.wall_s, 2)}
        return deadlines

    def _record_start(self, setup: RunSetup) -> None:
        run_state = self.run_state
        run_state.budget, run_state.seed = setup.budget.text, setup.seed
        run_state.data = self.data_module.to_dict()
        run_state.startup_s = run_state.startup_s or round(run_state.used_s, 2)
        run_state.start_clock()

    def _tune(self, setup: RunSetup) -> None:
        """Run Ray Tune over the stages that have not ended; see `run` for errors."""
        runner = StageRunner(
            self.stages,
            setup,
            folder=self.folder,
            configs=self.options.configs,
            find_lr=self.options.find_lr,
            run_state=self.run_state,
            table=self.table,
            checkpoints=self.checkpoints,
            console=self.console,
            stopped=lambda: self.interrupt.requested,
        )
        searcher = StageChain(runner.open_searchers())  # opens the first stage before Ray Tune handles signals
        if not searcher.is_finished:
            try:
                self._run_ray_tune(searcher, setup)
            finally:
                self.table.write()
            if not searcher.is_finished and searcher.running and not runner.failure:
                waited = f"{format_count(searcher.running, 'trial')} had not ended when the budget ended"
                self.console.print(waited, style="yellow")
        if runner.failure:
            raise (StageFailedError if self.table.records else NoModelError)(runner.failure)

    def _run_ray_tune(self, searcher: StageChain, setup: RunSetup) -> None:
        workers, first = setup.cluster.workers, self.stages[0]
        scheduler = StageScheduler(first.epochs, workers)
        scheduler.restore_reports(
            (line["trial_id"], line["epochs"], line["score"])
            for line in read_lines(self.folder / "reports.jsonl")
            if line["stage"] == first.name
        )
        loggers: list[TrialLogger] = [TensorBoard(self.folder / "tensorboard"), self.stage_studies]
        loggers += [self.tracker] if self.tracker else []
        recorder = RecordCallback(
            searcher, self.table, loggers, self.run_state, self.checkpoints, self.console.update, self.console.print
        )
        with self.interrupt.pass_to_ray_tune():
            run_experiment(
                searcher,
                scheduler,
                recorder,
                name=str(self.run_state.processes),
                workers=workers,
                count_workers=None if setup.cluster.local else setup.cluster.count_workers,
                deadline=self.interrupt.deadline - LATE_S,
            )

    def _finalize(self, budget: Budget) -> None:
        """Write best/ and front/, and record the end of the run."""
        models = FinalModels(self.stages, self.run_state, self.table, self.checkpoints, self.data_module)
        best, metrics = models.write(keep=self.options.keep, wall_s=budget.wall_s)
        self.stage_studies.attach_image(self.folder / "best" / "samples.png")
        (self.folder / "report.html").unlink(missing_ok=True)  # of an earlier round; it prevents a resume
        self.run_state.end("done")
        report_best(best, metrics, self.console)
        if line := describe_front(self.run_state.front or [], best.trial_id, self.options.keep):
            self.console.print(f"  {line}")
