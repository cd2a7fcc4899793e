"""Predict foreground and depth of photos with a trained model, and write the images to a folder.

one-look predict [RUN] PHOTO_OR_FOLDER ... [--out DIR]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from analysis import AnalysisError
from analysis.predict.command import add_device_option, load_named_model, make_parser, reinterpret_first_argument
from analysis.predict.photos import find_photos
from analysis.predict.predictor import FARTHEST_MM, SHEET_ROWS, PhotoPredictor
from analysis.runs.files import check_folder
from data.reading.matching import PHOTO_SUFFIXES
from data.runtime import cli
from data.runtime.progress import progress_bar

EPILOG = f"""\
For each photo, at its own size, in the folder --out:
  NAME_mask.png          8 bits, white = foreground
  NAME_depth.png         16 bits, relative inverse depth, 0 = far to 65535 = near
  NAME_depth_colour.jpg  the depth map in colours, near = bright
  NAME_overlay.jpg       the photo with its foreground tinted and outlined
  NAME_cutout.png        the foreground, transparent elsewhere
  NAME_depth_mm.png      with --metres: 16 bits, millimetres from the camera, 65535 = {FARTHEST_MM / 1000} m or more
and contact_sheet.jpg with {SHEET_ROWS} photos (more sheets: contact_sheet_2.jpg, ...).

Folders are searched recursively for files that end in {" ".join(sorted(PHOTO_SUFFIXES))};
the masks and depth maps of a data set folder are left out. NAME keeps the folders in which a photo was found. If two
photos would get the same NAME, their suffixes are added, then the whole path. Files of an earlier call are replaced.

Exit code: 0 photos were predicted (unreadable files are named and skipped), 1 no photo could be predicted,
2 wrong arguments.
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = make_parser("one-look predict", "Predict foreground and depth of photos with a trained model.", EPILOG)
    p.add_argument("photos", type=Path, nargs="+", metavar="PHOTO_OR_FOLDER", help="photos, folders of photos")
    p.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to (default: %(default)s)")
    p.add_argument("--metres", action="store_true", help="write distances too; needs a model trained on metric depth")
    add_device_option(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _predict(args), AnalysisError)


def _predict(args: argparse.Namespace) -> int:
    """Find the photos, load the model, predict, and print a summary."""
    check_folder(args.out)
    reinterpret_first_argument(args, "photos")
    photos = find_photos(args.photos, args.out)
    model = load_named_model(args)
    for task, share in (("mask", model.stats.mask_known), ("depth", model.stats.depth_known)):
        if not share:
            print(f"note: this model was trained without any {task}; its {task} is meaningless", file=sys.stderr)
    if args.metres:
        model.metres(np.zeros((1, 1), np.float32))  # raises an error before the work if depth is relative
    begin = time.perf_counter()
    with progress_bar("photos") as progress:
        predictor = PhotoPredictor(model, args.out, metres=args.metres, progress=progress)
        predictor.write(photos)
    rate = predictor.done / (time.perf_counter() - begin)
    skipped = cli.format_count(predictor.skipped, "file")
    if not predictor.done:
        print(f"no photo could be predicted: {skipped} skipped")
        return 1
    done, skipped = cli.format_count(predictor.done, "photo"), f", {skipped} skipped" if predictor.skipped else ""
    print(f"{done} in {args.out}{skipped} ({rate:.1f} per second, without loading the model)")
    print(cli.to_printable(model.origin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
