import cv2
import numpy as np
import pytest

from data.scenes.animals import quadruped
from data.scenes.birds import bird
from data.scenes.breeds import BREEDS
from data.scenes.figures import draw_figure
from data.scenes.indoors import indoor_world
from data.scenes.light import Light, shadowed
from data.scenes.objects import MAKERS
from data.scenes.outdoors import outdoor_world
from data.scenes.parts import Ball, Figure, Limb, Slab, turned, vector
from data.scenes.people import person
from data.scenes.render import Camera, World, render
from data.scenes.sky import Ridge, Sky
from data.scenes.solids import Box, Ellipsoid, Frustum, Ground, Room, gap_m
from data.scenes.textures import PATTERNS, Material, hsv, noise, paint, rgb
from data.scenes.things import draw_thing
from data.scenes.vectors import dot, floats, pixels_by_owner, unit

GREY = Material(colours=(rgb(0.5, 0.5, 0.5), rgb(0.2, 0.2, 0.2)))
AHEAD = floats([[0, 0, 1]])


def first_hit(solid, origin=(0.0, 0.0, 0.0), ray=(0.0, 0.0, 1.0)):
    return float(solid.hit(floats([origin]), floats([ray]))[0])


@pytest.mark.parametrize(
    ("solid", "expected"),
    [
        (Box(material=GREY, centre=(0.0, 0.0, 5.0), half=(1.0, 1.0, 1.0)), 4.0),
        (Box(material=GREY, centre=(0.0, 0.0, 5.0), half=(1.0, 1.0, 1.0), yaw=np.pi / 4), 5 - np.sqrt(2)),
        (Ellipsoid(material=GREY, centre=(0.0, 0.0, 5.0), radii=(1.0, 1.0, 2.0)), 3.0),
        (Frustum(material=GREY, centre=(0.0, -1.0, 5.0), foot=1.0, top=1.0, height=2.0), 4.0),
        (Frustum(material=GREY, centre=(0.0, -1.0, 5.0), foot=1.0, top=0.0, height=2.0), 4.5),
        (Room(material=GREY, floor=GREY, ceiling=GREY, centre=(0.0, 0.0, 1.0), half=(2.0, 2.0, 3.0)), 4.0),
        (Box(material=GREY, centre=(5.0, 0.0, 5.0), half=(1.0, 1.0, 1.0)), np.inf),
        (Box(material=GREY, centre=(0.0, 0.0, -5.0), half=(1.0, 1.0, 1.0)), np.inf),
        (Ellipsoid(material=GREY, centre=(0.0, 0.0, -5.0), radii=(1.0, 1.0, 1.0)), np.inf),
    ],
)
def test_solid_is_hit_where_it_stands(solid, expected):
    assert first_hit(solid) == pytest.approx(expected, rel=1e-5)


def test_ground_is_hit_below_the_horizon_only():
    ground = Ground(material=GREY)
    assert first_hit(ground, (0.0, 2.0, 0.0), (0.0, -1.0, 2.0)) == pytest.approx(2.0)
    assert first_hit(ground, (0.0, 2.0, 0.0), (0.0, 0.1, 1.0)) == np.inf


def test_cylinder_has_a_lid():
    barrel = Frustum(material=GREY, centre=(0.0, 0.0, 0.0), foot=0.5, top=0.5, height=1.0)
    assert first_hit(barrel, (0.2, 3.0, 0.0), (0.0, -1.0, 0.0)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "solid",
    [
        Box(material=GREY, centre=(0.3, 0.2, 5.0), half=(1.0, 0.7, 1.2), yaw=0.4),
        Ellipsoid(material=GREY, centre=(0.3, 0.2, 5.0), radii=(1.0, 0.7, 1.2)),
        Frustum(material=GREY, centre=(0.1, -1.0, 5.0), foot=1.1, top=0.6, height=2.0),
    ],
)
def test_normals_are_unit_and_face_the_viewer(solid):
    rays = floats([[x, y, 1] for x in np.linspace(-0.04, 0.12, 5) for y in np.linspace(-0.03, 0.1, 5)])
    hits = solid.hit(floats([[0, 0, 0]]), rays)
    assert np.isfinite(hits).all()
    normal, u, v = solid.surface(rays * hits[:, None])
    np.testing.assert_allclose(dot(normal, normal), 1, atol=1e-4)
    assert (dot(normal, rays) < 0).all()
    assert u.shape == v.shape == hits.shape


def test_shapes_lie_within_their_corners():
    solid = Box(material=GREY, centre=(1.0, 2.0, 3.0), half=(1.0, 0.5, 2.0), yaw=0.7)
    corners = solid.corners()
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(corners - corners.mean(axis=0), axis=1), np.sqrt(5.25), rtol=1e-5)


def test_gap_is_distance_to_the_box_around():
    ball = Ellipsoid(material=GREY, centre=(0.0, 0.0, 5.0), radii=(1.0, 1.0, 1.0))
    assert gap_m(ball, (0.0, 0.0, 0.0)) == pytest.approx(4.0)
    assert gap_m(Ground(material=GREY), (0.0, 1.0, 0.0)) == np.inf


def test_shadow_falls_behind_what_stands_in_the_light():
    box = Box(material=GREY, centre=(0.0, 1.0, 0.0), half=(0.5, 0.1, 0.5))
    points = floats([[0, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(shadowed(points, floats([0, 1, 0]), (box,), np.inf), [True, False])
    lamp_below = np.broadcast_to(floats([0, 0.5, 0]), points.shape)
    assert not shadowed(points, lamp_below, (box,), 1.0).any()


def plain_world(*solids, **camera):
    return World(
        solids=solids,
        camera=Camera(position=(0.0, 1.5, 0.0), **camera),
        light=Light(),
        sky=Sky(zenith=rgb(0.2, 0.4, 0.9), horizon=rgb(0.8, 0.9, 1.0)),
    )


def test_rendered_depth_is_exact():
    wall = Box(material=GREY, centre=(0.0, 0.0, 6.0), half=(50.0, 50.0, 1.0))
    _, depth = render(plain_world(wall), 32)
    np.testing.assert_allclose(depth, 5.0, rtol=1e-4)


def test_rendered_ground_depth_follows_perspective():
    _, depth = render(plain_world(Ground(material=GREY), focal=1.0), 64)
    rows = (np.arange(64) + 0.5) / 64 - 0.5
    below = rows > 0.1
    np.testing.assert_allclose(depth[below, 10], 1.5 / rows[below], rtol=2e-2)
    assert np.isinf(depth[rows < -0.02]).all()


def test_nearer_solids_hide_farther_ones():
    near = Box(material=GREY, centre=(0.0, 1.5, 4.0), half=(0.2, 0.2, 0.2))
    far = Box(material=GREY, centre=(0.0, 1.5, 9.0), half=(2.0, 2.0, 0.5))
    for solids in ((near, far), (far, near)):
        _, depth = render(plain_world(*solids), 33)
        assert depth[16, 16] == pytest.approx(3.8, rel=1e-3)


def test_camera_turned_right_sees_what_is_right():
    box = Box(material=GREY, centre=(5.0, 1.5, 5.0), half=(0.5, 0.5, 0.5))
    _, depth = render(plain_world(box, yaw=np.pi / 4), 33)
    assert np.isfinite(depth[16, 16])
    assert not np.isfinite(depth[16, 0])


def test_ridges_stand_above_the_horizon_at_their_depth():
    sky = Sky(
        zenith=rgb(0.2, 0.4, 0.9),
        horizon=rgb(0.8, 0.9, 1.0),
        ridges=(Ridge(depth_m=120.0, height=0.3, width=0.5, colour=rgb(0.3, 0.4, 0.3)),),
    )
    colours, depths = sky.draw(unit(floats([[0, -0.01, 1], [0, 0.9, 1]])))
    assert depths[0] == 120
    assert np.isinf(depths[1])
    assert colours.shape == (2, 3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_paints_within_range_and_fades_far_away(pattern):
    rng = np.random.default_rng(0)
    u, v = (rng.uniform(-30, 30, 4000).astype(np.float32) for _ in range(2))
    material = Material(colours=(rgb(0.9, 0.1, 0.2), rgb(0.1, 0.8, 0.3)), pattern=pattern, vary=0.4, grain=0.3)
    near, far = (paint(material, u, v, np.full(4000, blur, np.float32)) for blur in (0.001, 5.0))
    assert near.shape == (4000, 3)
    assert near.min() >= 0
    assert near.max() <= 1
    if pattern in ("stripes", "checker", "bricks", "tiles", "planks", "windows", "plaid"):
        assert far.std(axis=0).sum() < near.std(axis=0).sum()


def test_unknown_pattern_error_lists_the_names():
    with pytest.raises(ValueError, match="stripes"):
        Material(colours=(rgb(0.0, 0.0, 0.0), rgb(1.0, 1.0, 1.0)), pattern="zigzag")


def test_noise_is_centred_and_repeats():
    u = np.random.default_rng(1).uniform(0, 16, 20_000).astype(np.float32)
    values = noise(u, u[::-1].copy())
    assert values.mean() == pytest.approx(0.5, abs=0.05)
    assert values.std() > 0.1
    np.testing.assert_array_equal(noise(floats([1.25]), floats([2.5])), noise(floats([17.25]), floats([2.5])))


def test_hsv_gives_display_colours_squared():
    assert hsv(0.0, 1.0, 0.5) == pytest.approx((0.25, 0, 0))
    assert hsv(1 / 3, 1.0, 1.0) == pytest.approx((0, 1, 0), abs=1e-3)


def test_pixels_by_owner_covers_all_once():
    owner = np.array([[2, -1], [2, 0]], np.int16)
    found = {index: here.tolist() for index, here in pixels_by_owner(owner)}
    assert found == {-1: [1], 0: [3], 2: [0, 2]}


def front_by_search(part, x, y, steps=4001):
    """Front of a swept sphere, found by trying many spheres."""
    place = np.linspace(0, 1, steps)[:, None]
    centre = part.start + place * (part.end - part.start)
    radius = part.thick + place[:, 0] * (part.thin - part.thick)
    rest = radius**2 - (centre[:, 0] - x) ** 2 - (centre[:, 1] - y) ** 2
    depth = np.where(rest > 0, centre[:, 2] - np.sqrt(np.maximum(rest, 0)), np.inf)
    return depth.min()


def test_front_of_limb_agrees_with_search_over_spheres():
    rng = np.random.default_rng(0)
    for _ in range(20):
        start, end = floats(rng.normal(0, 1, 3).tolist()), floats(rng.normal(0, 1, 3).tolist())
        part = Limb(
            start=start, end=end, thick=float(rng.uniform(0.1, 0.4)), thin=float(rng.uniform(0.1, 0.4)), material=GREY
        )
        low, high = part.bounds()
        x, y = (floats(np.linspace(low[axis], high[axis], 9).tolist()) for axis in (0, 1))
        found = part.front(x[None], y[:, None])
        sought = np.array([[front_by_search(part, column, row) for column in x] for row in y])
        both = np.isfinite(found) & np.isfinite(sought)
        assert (np.isfinite(found) == np.isfinite(sought)).mean() > 0.97
        np.testing.assert_allclose(found[both], sought[both], atol=2e-3)


@pytest.mark.parametrize(
    "part",
    [
        Limb(start=vector(-0.5, 0, 0), end=vector(0.5, 0.2, 0.4), thick=0.3, thin=0.2, material=GREY),
        Ball(centre=vector(0.1, 0, 0), radii=vector(0.5, 0.3, 0.2), material=GREY, axes=turned(0.4, 0.3, 0.2)),
        Slab(centre=vector(0.1, 0, 0), half=vector(0.5, 0.3, 0.2), material=GREY, axes=turned(0.4, 0.3, 0.2)),
    ],
)
def test_part_lies_within_its_bounds_and_faces_the_viewer(part):
    low, high = part.bounds()
    x, y = (np.linspace(low[axis] - 0.2, high[axis] + 0.2, 60).astype(np.float32) for axis in (0, 1))
    depth = part.front(x[None], y[:, None])
    rows, columns = np.nonzero(np.isfinite(depth))
    assert 0.2 < len(rows) / depth.size < 0.9
    assert (x[columns] >= low[0] - 1e-4).all()
    assert (y[rows] <= high[1] + 1e-4).all()
    assert (depth[rows, columns] >= low[2] - 1e-4).all()
    normals = part.normals(np.stack([x[columns], y[rows], depth[rows, columns]], axis=-1))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    assert (normals[:, 2] < 1e-3).all()


def test_moved_part_is_the_part_seen_from_elsewhere():
    ball = Ball(centre=vector(0, 0, 0), radii=vector(0.5, 0.3, 0.2), material=GREY, axes=turned())
    low, high = ball.moved(turned(yaw=np.pi / 2), vector(1, 0, 0)).bounds()
    np.testing.assert_allclose(high - low, [0.4, 0.6, 1.0], atol=1e-5)
    np.testing.assert_allclose((high + low) / 2, [1, 0, 0], atol=1e-5)


def test_drawn_figure_has_the_size_asked_for_and_relief_in_pixels():
    sphere = Ball(centre=vector(0, 0, 0), radii=vector(1, 1, 1), material=GREY, axes=turned())
    cutout = draw_figure(Figure(name="ball", parts=(sphere,), height_m=1.0), 40.0, (0.0, 1.0, -1.0))
    solid = cutout.alpha > 0.5
    assert abs(np.ptp(np.nonzero(solid)[0]) + 1 - 40) <= 1
    assert solid.sum() == pytest.approx(np.pi * 20**2, rel=0.03)
    assert cutout.px_per_unit == pytest.approx(20)
    middle = tuple(side // 2 for side in cutout.alpha.shape)
    assert cutout.relief[middle] < 0.5
    assert cutout.relief[solid].max() == pytest.approx(20, rel=0.2)


def test_figure_is_lit_from_the_light():
    sphere = Ball(centre=vector(0, 0, 0), radii=vector(1, 1, 1), material=GREY, axes=turned())
    cutout = draw_figure(Figure(name="ball", parts=(sphere,), height_m=1.0), 40.0, (0.0, 1.0, -0.2))
    assert cutout.colour[:15].sum() > 1.5 * cutout.colour[-15:].sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("maker", [person, quadruped, bird, draw_thing, *MAKERS.values()])
def test_every_maker_draws_a_figure(maker, seed):
    figure = maker(np.random.default_rng(seed))
    cutout = draw_figure(figure, 48.0, (0.3, 0.7, -0.5))
    assert 0.02 < (cutout.alpha > 0.5).mean() < 0.98
    assert np.isfinite(cutout.colour).all()
    assert figure.height_m > 0
    count, _ = cv2.connectedComponents((cutout.alpha > 0.2).astype(np.uint8))
    assert count <= 5  # the background, and a thing in few pieces


def test_all_breeds_come_up():
    rng = np.random.default_rng(0)
    assert {quadruped(rng).name for _ in range(120)} == set(BREEDS)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("maker", [outdoor_world, indoor_world])
def test_every_world_has_depth_and_texture(maker, seed):
    image, depth = render(maker(np.random.default_rng(seed)), 48)
    assert np.isfinite(image).all()
    assert image.std() > 0.04
    assert depth.min() > 1.4
    known = 1 / depth
    assert known.std() > 0.01
    if maker is indoor_world:
        assert np.isfinite(depth).all()
