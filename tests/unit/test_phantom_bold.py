import numpy as np
from scipy.special import gamma

from bids_xai.phantom.anatomy import rigid, template_position
from bids_xai.phantom.bold import bold_run, fluctuations, make_brain
from bids_xai.phantom.events import Events, draw_events, responses, run_length
from bids_xai.phantom.parameters import PhantomParameters
from bids_xai.phantom.places import amplitude_maps, choose_places
from bids_xai.phantom.template import grid_points, load_template

COARSE = PhantomParameters(resolution=10.0, classes=2, trials_per_class=5, effect=20.0, noise=0.0)


def coarse_brain(parameters):
    template = load_template()
    places = choose_places(template, parameters.classes, np.random.default_rng(0))
    classes, common = amplitude_maps(template, places, parameters.resolution)
    return make_brain(template, classes, common, parameters), classes


def glover(t):
    """Return Glover's HRF: gamma densities of mean 6 and 12 s and scale .9 s, the later times .48."""
    peak, undershoot = (
        t ** (m / 0.9 - 1) * np.exp(-t / 0.9) / (gamma(m / 0.9) * 0.9 ** (m / 0.9)) for m in (6, 12)
    )
    h = peak - 0.48 * undershoot
    return h / h.sum()


def test_responses_are_boxcars_convolved_with_the_glover_hrf():
    events = Events(np.array([5.0, 30.0, 50.0]), np.array([0, 1, 0]), np.array([1.0, 2.0, 0.5]), 6.0)
    found = responses(events, 2, 2.0, 45)
    dt = 0.02
    t = np.arange(0, 90, dt)
    hrf = glover(np.arange(0, 32, dt))
    for code in range(2):
        stimulus = np.zeros_like(t)
        for k in np.flatnonzero(events.codes == code):
            stimulus[(t >= events.onsets[k]) & (t < events.onsets[k] + 6)] += events.gains[k]
        expected = np.convolve(stimulus, hrf)[: len(t)][np.rint(np.arange(45) * 2.0 / dt).astype(int)]
        np.testing.assert_allclose(found[code], expected, atol=0.02)


def test_a_run_holds_all_its_events_with_room_for_their_windows():
    parameters = PhantomParameters(classes=4, trials_per_class=7)
    events = draw_events(parameters, np.random.default_rng(0))
    assert (np.bincount(events.codes) == 7).all()
    gaps = np.diff(events.onsets) - events.duration
    assert 0.9 < gaps.min() < gaps.max() < 3.1
    assert events.onsets[-1] + events.duration + 5 < run_length(parameters) * parameters.tr


def test_a_strong_response_is_where_the_truth_says():
    brain, classes = coarse_brain(COARSE)
    events = draw_events(COARSE, np.random.default_rng(1))
    regressors = responses(events, 2, COARSE.tr, run_length(COARSE))
    data = bold_run(brain, template_position(), regressors, COARSE, np.random.default_rng(2)).astype(float)
    mean = data.mean(axis=-1)
    time = np.linspace(-1, 1, regressors.shape[1])
    design = np.column_stack([regressors.T, np.ones_like(time), time, time**2, np.cos(np.pi * (time + 1))])
    percent = 100 * (data / np.where(mean > 0, mean, 1)[..., None] - 1)
    found = np.einsum("kt,xyzt->kxyz", np.linalg.pinv(design)[:2], percent)
    for code in range(2):
        where = (classes[code] > 0) & (mean > 100)
        assert np.corrcoef(found[code][where], classes[code][where])[0, 1] > 0.8
        assert abs(found[code][where].mean() / (COARSE.effect * classes[code][where].mean()) - 1) < 0.15
        silent = (classes == 0).all(axis=0) & (mean > 100)
        assert np.abs(found[code][silent]).mean() < 0.05 * COARSE.effect


def test_noise_has_the_variance_and_the_memory_it_was_asked_for():
    inside = np.zeros((14, 14, 14), dtype=bool)
    inside[2:-2, 2:-2, 2:-2] = True
    loud = PhantomParameters(noise=50.0, tr=2.0)
    percent = fluctuations(inside, 200, loud, np.random.default_rng(0))
    assert percent.shape == (200, inside.sum())
    assert abs(percent.std() / 50 - 1) < 0.03
    lagged = np.mean(percent[1:] * percent[:-1]) / np.mean(percent**2)
    assert abs(lagged - np.exp(-2.0 / 2.2)) < 0.03


def test_a_moving_head_is_seen_where_it_moved():
    quiet = PhantomParameters(resolution=10.0, classes=2, effect=0.0, noise=0.0)
    brain, _ = coarse_brain(quiet)
    motion = np.zeros((3, 6))
    motion[1], motion[2] = [10.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.2]
    regressors = np.zeros((2, 3), dtype=np.float32)
    rng = np.random.default_rng(0)
    data = bold_run(brain, template_position(), regressors, quiet, rng, motion=motion).astype(float)
    both = (data[1:, :, :, 1] > 0) & (data[:-1, :, :, 0] > 0)  # 10 mm is one voxel
    np.testing.assert_allclose(data[1:, :, :, 1][both], data[:-1, :, :, 0][both], rtol=0.15)
    assert (np.abs(data[..., 1] - data[..., 0])[1:] > 30).sum() > 50
    points = grid_points(brain.shape, brain.affine)
    back = np.linalg.inv(rigid(motion[2]))
    expected, _ = brain.seen(points @ back[:3, :3].T + back[:3, 3])
    solid = (expected > 100).reshape(brain.shape)
    np.testing.assert_allclose(data[..., 2][solid], expected.reshape(brain.shape)[solid], rtol=0.1)
