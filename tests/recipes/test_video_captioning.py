"""Clips are captioned as pictures are: the same decoder, over moments, and three files on a device."""

import numpy as np
import pytest
from PIL import Image

from zoo import export, recipes
from zoo.data import demo_movements
from zoo.errors import DataError, SettingError
from zoo.export import contents, runner
from zoo.recipes import VideoCaptioning
from zoo.recipes.video_captioning import device

SMALL = {"units": 8, "width": 6, "epochs": 1, "batch_size": 8, "frames": 4, "image_size": 16}


@pytest.fixture(scope="module")
def trained():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_movements, "_COUNTS", {"train": 32, "validation": 8, "test": 8})
        recipe = VideoCaptioning(**SMALL)
        yield (recipe, *recipe.train(verbose=0))


@pytest.fixture
def clip(trained, tmp_path):
    """A folder of frames of the test."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(trained[0].load().select("test")[0][0]):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def test_a_run_has_scores_and_comes_back_whole(trained, tmp_path):
    recipe, model, scores = trained
    assert scores["pictures"] == 8 and np.isfinite(scores["history"]["loss"]).all()
    again, loaded = recipes.load(recipes.save(tmp_path / "run", recipe, model, scores))
    assert again == recipe and again.evaluate(loaded) == recipe.evaluate(model)


def test_its_encoder_sees_every_frame_alone(trained):
    recipe, model, _ = trained
    frames = recipe.held_out(2)[0]["frames"]
    every = model.get_layer("encoder").predict(frames, verbose=0)
    one = recipe.parts(model)["encoder"].predict({"image": frames[1, :3]}, verbose=0)["features"]
    np.testing.assert_allclose(every[1, :3], one, atol=1e-6)  # float32 sums in another order


def test_the_order_of_frames_counts(trained):
    recipe, model, _ = trained
    inputs, _ = recipe.held_out(2)
    turned = {**inputs, "frames": inputs["frames"][:, ::-1]}
    assert (
        np.abs(model.predict(inputs, verbose=0) - model.predict(turned, verbose=0)).max() > 1e-5
    )  # far above rounding


@pytest.mark.on_tensorflow
def test_the_bundle_of_three_files_says_what_the_model_says_and_draws(trained, clip, tmp_path):
    recipe, model, _ = trained
    folder = export.bundle(recipe, model, tmp_path / "bundle", formats=["tflite"], schemes=["float32"])
    assert [entry["part"] for entry in contents.read_card(folder)["models"]] == ["encoder", "reader", "step"]
    assert export.verify(folder).passed
    ((words, score, attention), *_) = recipe.caption(model, [clip])[0]
    found = runner.run(folder, clip, device)
    assert found[0][0] == words and found[0][1] == pytest.approx(score, abs=1e-4)  # float32, over some ten steps
    assert attention.shape == (len(words), 4)
    runner.draw(found, clip, device, tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.size == (90 + 64 * 4, 64 * len(words))
    card = contents.read_card(folder)
    for name, value in (("frames", 10**6), ("frames", 2.5), ("image_size", "x")):
        with pytest.raises(DataError, match=name):
            device.read(clip, {"settings": {**card["settings"], name: value}})
    with pytest.raises(DataError, match="expected encoder, reader, step"):
        device.run({"encoder": None}, {}, card)


def test_own_clips_are_read_from_a_table(tmp_path, clip):
    rows = ["video,caption"]
    for number in range(30):
        (tmp_path / f"c{number}").symlink_to(clip)
        rows.append(f"c{number},A thing moves.")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    found = VideoCaptioning(data=tmp_path, **SMALL).load()
    assert len(found.pictures) == 30 and found.captions[0] == (("a", "thing", "moves"),)
    (clip / "0.png").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=r"0.png is no picture.*skip_bad"):
        VideoCaptioning(data=tmp_path, **SMALL).load()


def test_too_many_frames_are_refused():
    with pytest.raises(SettingError, match="frames is 1000, expected at most 256"):
        VideoCaptioning(frames=1000)
