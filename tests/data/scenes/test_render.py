import cv2
import numpy as np
import pytest

from data.scenes.figures import OBJECTS, draw_figure, list_objects, make_animal, make_object, make_person
from data.scenes.render import Camera, Light, Sky, World, find_shadows, render
from data.scenes.solids import Box, Ellipsoid, Frustum, ball, box, dot, floats, gap_m, rod, rotation
from data.scenes.textures import PATTERNS, Material, hsv, noise, paint, rgb
from data.scenes.worlds import make_outdoors, make_room

GREY = Material(colours=(rgb(0.5, 0.5, 0.5), rgb(0.2, 0.2, 0.2)))
GROUND = Box(material=GREY, centre=(0.0, -0.5, 0.0), half=(2000.0, 0.5, 2000.0), casts=False)


def first_hit(solid, origin=(0.0, 0.0, 0.0), ray=(0.0, 0.0, 1.0)):
    return float(solid.hit(floats([origin]), floats([ray]))[0])


@pytest.mark.parametrize(
    ("solid", "expected"),
    [
        (Box(material=GREY, centre=(0.0, 0.0, 5.0), half=(1.0, 1.0, 1.0)), 4.0),
        (box(GREY, (0.0, 0.0, 5.0), (1.0, 1.0, 1.0), yaw=np.pi / 4), 5 - np.sqrt(2)),
        (Ellipsoid(material=GREY, centre=(0.0, 0.0, 5.0), radii=(1.0, 1.0, 2.0)), 3.0),
        (Frustum(material=GREY, centre=(0.0, -1.0, 5.0), foot=1.0, top=1.0, height=2.0), 4.0),
        (Frustum(material=GREY, centre=(0.0, -1.0, 5.0), foot=1.0, top=0.0, height=2.0), 4.5),
        (rod(GREY, (0.0, 0.0, 5.0), (0.0, 0.0, 8.0), 1.0), 4.0),
        (rod(GREY, (0.0, 0.0, 5.0), (0.0, 0.0, 8.0), 1.0, 0.5, rounded=False), 5.0),
        (rod(GREY, (-2.0, 0.0, 5.0), (2.0, 0.0, 5.0), 1.0), 4.0),
        (Box(material=GREY, centre=(5.0, 0.0, 5.0), half=(1.0, 1.0, 1.0)), np.inf),
        (Box(material=GREY, centre=(0.0, 0.0, -5.0), half=(1.0, 1.0, 1.0)), np.inf),
        (Ellipsoid(material=GREY, centre=(0.0, 0.0, -5.0), radii=(1.0, 1.0, 1.0)), np.inf),
    ],
)
def test_solid_is_hit_where_it_stands(solid, expected):
    assert first_hit(solid) == pytest.approx(expected, rel=1e-5)


def test_ground_is_hit_below_the_horizon_only():
    assert first_hit(GROUND, (0.0, 2.0, 0.0), (0.0, -1.0, 2.0)) == pytest.approx(2.0)
    assert first_hit(GROUND, (0.0, 2.0, 0.0), (0.0, 0.1, 1.0)) == np.inf


def test_cylinder_has_a_lid():
    barrel = Frustum(material=GREY, centre=(0.0, 0.0, 0.0), foot=0.5, top=0.5, height=1.0)
    assert first_hit(barrel, (0.2, 3.0, 0.0), (0.0, -1.0, 0.0)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "solid",
    [
        box(GREY, (0.3, 0.2, 5.0), (1.0, 0.7, 1.2), yaw=0.4),
        Ellipsoid(material=GREY, centre=(0.3, 0.2, 5.0), radii=(1.0, 0.7, 1.2)),
        Frustum(material=GREY, centre=(0.1, -1.0, 5.0), foot=1.1, top=0.6, height=2.0),
        rod(GREY, (-0.6, -0.4, 4.5), (0.7, 0.5, 5.0), 1.2, 0.8),
        Ellipsoid(material=GREY, centre=(0.3, 0.2, 5.0), radii=(1.0, 0.7, 1.2), axes=rotation(0.4, 0.3, 0.2)),
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
    corners = box(GREY, (1.0, 2.0, 3.0), (1.0, 0.5, 2.0), yaw=0.7).corners
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(corners - corners.mean(axis=0), axis=1), np.sqrt(5.25), rtol=1e-5)


def test_gap_is_distance_to_the_box_around():
    ball = Ellipsoid(material=GREY, centre=(0.0, 0.0, 5.0), radii=(1.0, 1.0, 1.0))
    assert gap_m(ball, (0.0, 0.0, 0.0)) == pytest.approx(4.0)
    assert gap_m(GROUND, (0.0, 1.0, 0.0)) == pytest.approx(1.0)


def test_shadow_falls_behind_what_stands_in_the_light():
    block = Box(material=GREY, centre=(0.0, 1.0, 0.0), half=(0.5, 0.1, 0.5))
    points = floats([[0, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(find_shadows(points, Light(), (block,)), [True, False])
    assert not find_shadows(points, Light(lamp=(0.0, 0.5, 0.0)), (block,)).any()


def plain_world(*solids, yaw=0.0, focal=1.0, sky=True):
    return World(
        solids=solids,
        camera=Camera(position=(0.0, 1.5, 0.0), axes=rotation(-yaw), focal=focal),
        light=Light(),
        sky=Sky(zenith=rgb(0.2, 0.4, 0.9), horizon=rgb(0.8, 0.9, 1.0)) if sky else None,
    )


def depth_of(world, px):
    with np.errstate(divide="ignore"):
        return 1 / render(world, px).inverse


def test_rendered_depth_is_exact():
    wall = Box(material=GREY, centre=(0.0, 0.0, 6.0), half=(50.0, 50.0, 1.0))
    depth = depth_of(plain_world(wall), 32)
    np.testing.assert_allclose(depth, 5.0, rtol=1e-4)


def test_rendered_ground_depth_follows_perspective():
    depth = depth_of(plain_world(GROUND), 64)
    rows = (np.arange(64) + 0.5) / 64 - 0.5
    below = rows > 0.1
    np.testing.assert_allclose(depth[below, 10], 1.5 / rows[below], rtol=2e-2)
    assert np.isinf(depth[rows < -0.02]).all()


def test_nearer_solids_hide_farther_ones():
    near = Box(material=GREY, centre=(0.0, 1.5, 4.0), half=(0.2, 0.2, 0.2))
    far = Box(material=GREY, centre=(0.0, 1.5, 9.0), half=(2.0, 2.0, 0.5))
    for solids in ((near, far), (far, near)):
        depth = depth_of(plain_world(*solids), 33)
        assert depth[16, 16] == pytest.approx(3.8, rel=1e-3)


def test_camera_turned_right_sees_what_is_right():
    box = Box(material=GREY, centre=(5.0, 1.5, 5.0), half=(0.5, 0.5, 0.5))
    depth = depth_of(plain_world(box, yaw=np.pi / 4), 33)
    assert np.isfinite(depth[16, 16])
    assert not np.isfinite(depth[16, 0])


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


def test_noise_is_centred_and_repeats():
    u = np.random.default_rng(1).uniform(0, 16, 20_000).astype(np.float32)
    values = noise(u, u[::-1].copy())
    assert values.mean() == pytest.approx(0.5, abs=0.05)
    assert values.std() > 0.1
    np.testing.assert_array_equal(noise(floats([1.25]), floats([2.5])), noise(floats([17.25]), floats([2.5])))


def test_hsv_gives_display_colours_squared():
    assert hsv(0.0, 1.0, 0.5) == pytest.approx((0.25, 0, 0))
    assert hsv(1 / 3, 1.0, 1.0) == pytest.approx((0, 1, 0), abs=1e-3)


def first_hit_by_search(limb, origin, ray, steps=4001):
    """First hit of a limb, found by trying many of the spheres that sweep it."""
    along = floats(limb.axes)[:, 1] if limb.axes is not None else floats([0, 1, 0])
    place = np.linspace(0, 1, steps)[:, None]
    centre = floats(limb.centre) + place * limb.height * along - origin
    radius = limb.foot + place[:, 0] * (limb.top - limb.foot)
    a, b, c = ray @ ray, -(centre @ ray), (centre**2).sum(axis=1) - radius**2
    rest = b * b - a * c
    return np.where(rest > 0, (-b - np.sqrt(np.maximum(rest, 0))) / a, np.inf).min()


def test_hits_of_limb_agree_with_search_over_spheres():
    rng = np.random.default_rng(0)
    origin = floats([0, 0, -8])
    for _ in range(20):
        start, end = rng.normal(0, 1, (2, 3))
        limb = rod(GREY, floats(start), floats(end), float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.1, 0.4)))
        low, high = limb.corners.min(axis=0), limb.corners.max(axis=0)
        rays = floats(rng.uniform(low, high, (60, 3))) - origin
        found = limb.hit(origin[None], rays)
        sought = np.array([first_hit_by_search(limb, origin, ray) for ray in rays])
        both = np.isfinite(found) & np.isfinite(sought)
        assert both.any()
        assert (np.isfinite(found) == np.isfinite(sought)).mean() > 0.97
        np.testing.assert_allclose(found[both], sought[both], atol=2e-3)


def test_moved_solid_is_the_solid_seen_from_elsewhere():
    corners = ball(GREY, (0.0, 0.0, 0.0), 0.5, 0.3, 0.2).moved(rotation(yaw=np.pi / 2), (1.0, 0.0, 0.0)).corners
    np.testing.assert_allclose(np.ptp(corners, axis=0), [0.4, 0.6, 1.0], atol=1e-5)
    np.testing.assert_allclose(corners.mean(axis=0), [1, 0, 0], atol=1e-5)


def test_coverage_and_depth_of_a_figure_without_sky_are_exact():
    view = render(plain_world(ball(GREY, (0.0, 1.5, 10.0), 1.0), focal=2.0, sky=False), 100)
    side = 2 * 2.0 * 100 * np.tan(np.arcsin(0.1))  # of the circle in which a sphere is seen
    assert view.alpha.sum() == pytest.approx(np.pi * side**2 / 4, rel=0.01)
    middle = tuple(length // 2 for length in view.alpha.shape)
    assert 1 / view.inverse[middle] == pytest.approx(9.0, rel=1e-3)
    whole = render(plain_world(ball(GREY, (0.0, 1.5, 10.0), 1.0), focal=2.0), 100)
    np.testing.assert_allclose(view.inverse * view.alpha, whole.inverse[view.window], atol=1e-6)
    outside = whole.inverse.copy()
    outside[view.window] = 0
    assert (outside == 0).all()


def test_figure_is_lit_from_the_light():
    image = render(plain_world(ball(GREY, (0.0, 1.5, 10.0), 1.0), focal=2.0, sky=False), 100).image
    assert image[: len(image) // 3].sum() > 1.5 * image[-(len(image) // 3) :].sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["person", "animal", "drawn", *OBJECTS])
def test_every_maker_makes_a_figure_that_stands(name, seed):
    rng = np.random.default_rng(seed)
    makers = {"person": make_person, "animal": make_animal, "drawn": lambda rng: draw_figure(rng)[1]}
    solids = makers[name](rng) if name in makers else make_object(name, rng)
    corners = np.concatenate([solid.corners for solid in solids])
    assert abs(corners[:, 1].min()) < 0.6
    middle, size = (corners.min(axis=0) + corners.max(axis=0)) / 2, np.ptp(corners, axis=0).max()
    camera = Camera(position=floats(middle - [0, 0, 3 * size]), axes=rotation(), focal=2.0)
    view = render(World(solids=tuple(solids), camera=camera, light=Light(towards=(0.3, 0.7, -0.5))), 64)
    assert (view.alpha > 0.5).mean() > 0.02
    assert np.isfinite(view.image).all()
    count, _ = cv2.connectedComponents((view.alpha > 0.2).astype(np.uint8))
    assert count <= 6  # the background, and a figure in few pieces


def test_every_place_has_objects_and_foreground_is_never_clutter():
    for place in ("figure", "room", "wall", "meadow", "wood", "snow", "desert", "street", "yard"):
        assert list_objects(place)
    assert not any("figure" in places and len(places) > 1 for places, _ in OBJECTS.values())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("maker", [make_outdoors, make_room])
def test_every_world_has_depth_and_texture(maker, seed):
    view = render(maker(np.random.default_rng(seed)), 48)
    assert np.isfinite(view.image).all()
    assert view.image.std() > 0.04
    assert view.inverse.max() < 1 / 1.4
    assert view.inverse.std() > 0.01
    if maker is make_room:
        assert (view.inverse > 0).all()
