import gzip
import json
import struct
import sys

import numpy as np
import pandas
import pytest
from PIL import Image

from search_spaces.loading import ImportRefused, LoadError
from workers.datasets.dataset import DataError
from workers.datasets.load import NAMED, load_dataset
from workers.datasets.user import module_of

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def all_inputs(data):
    """Every stored input of a data set, in an order of its own."""
    parts = [split.inputs for split in (data.train, data.validation, data.test)]
    flat = np.concatenate(parts).reshape(sum(map(len, parts)), -1)
    return flat[np.lexsort(flat.T)]


def same_examples(data, inputs):
    flat = np.asarray(inputs).reshape(len(inputs), -1)
    return np.array_equal(all_inputs(data), flat[np.lexsort(flat.T)].astype(all_inputs(data).dtype))


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "total"),
    [
        ("digits", (1, 8, 8), 10, 1797),
        ("iris", (4,), 3, 150),
        ("wine", (13,), 3, 178),
        ("breast_cancer", (30,), 2, 569),
        ("diabetes", (10,), 1, 442),
    ],
)
def test_bundled_sets_load_by_name(name, shape, outputs, total):
    data = load_dataset(name)
    assert (data.input_shape, data.outputs) == (shape, outputs)
    assert len(data.train) + len(data.validation) + len(data.test) == total
    assert json.loads(json.dumps(data.summary()))["name"] == name


def test_every_named_set_is_tested_above():
    assert set(NAMED) == {"digits", "iris", "wine", "breast_cancer", "diabetes"}


def test_digits_are_the_images_of_scikit_learn():
    from sklearn.datasets import load_digits

    assert same_examples(load_dataset("digits"), load_digits().data)


def test_npz_with_x_and_y(tmp_path):
    np.savez(tmp_path / "a.npz", x=PIXELS, y=LABELS)
    data = load_dataset(tmp_path / "a.npz")
    assert data.input_shape == (1, 6, 5)
    assert same_examples(data, PIXELS)


def test_npz_with_official_parts(tmp_path):
    np.savez(tmp_path / "a.npz", X_train=PIXELS, y_train=LABELS, X_test=PIXELS[:8], y_test=LABELS[:8])
    data = load_dataset(tmp_path / "a.npz")
    assert np.array_equal(data.test.inputs[:, 0], PIXELS[:8])
    assert (len(data.train), len(data.validation)) == (32, 8)


def test_npz_channels_are_put_first(tmp_path):
    colour = np.stack([PIXELS, PIXELS, PIXELS], axis=3)
    np.savez(tmp_path / "a.npz", x=colour, y=LABELS)
    assert load_dataset(tmp_path / "a.npz").input_shape == (3, 6, 5)
    assert load_dataset(tmp_path / "a.npz", layout="as_is").input_shape == (6, 5, 3)
    with pytest.raises(DataError, match="needs an array of 3 axes"):
        load_dataset(tmp_path / "a.npz", layout="NHW")


def test_npz_with_published_splits(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(21, 3)), np.random.default_rng(1).normal(size=21)
    tests = np.zeros((2, 21), bool)
    tests[0, :4] = tests[1, 15:] = True
    np.savez(tmp_path / "a.npz", X=x, y=y, test_mask=np.packbits(tests, axis=1), n=21)
    for split, mask in enumerate(tests):
        data = load_dataset(tmp_path / "a.npz", split=split)
        assert np.array_equal(data.test.inputs, x[mask].astype(np.float32))
    with pytest.raises(DataError, match="from 0 to 1, got 2"):
        load_dataset(tmp_path / "a.npz", split=2)


def test_npz_with_encoded_images(tmp_path):
    import io

    files = []
    for image in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(image).convert("RGB").save(buffer, "PNG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.concatenate([[0], np.cumsum([len(file) for file in files])])
    names = np.asarray(["a", "b", "c", "d"])
    np.savez(
        tmp_path / "a.npz", bytes_train=np.concatenate(files), offsets_train=offsets, y_train=LABELS, classes=names
    )
    data = load_dataset(tmp_path / "a.npz")
    assert data.class_names == ("a", "b", "c", "d")
    assert same_examples(data, np.stack([PIXELS] * 3, axis=1))


def test_pickled_arrays_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.asarray([{}] * 10, dtype=object), y=np.arange(10))
    with pytest.raises(DataError, match="plain arrays"):
        load_dataset(tmp_path / "a.npz")


def test_npz_of_other_arrays_says_what_is_allowed(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    with pytest.raises(DataError, match="found the arrays images, labels; allowed are x and y; or x_train"):
        load_dataset(tmp_path / "a.npz")


def table(rows=60):
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "size": rng.normal(size=rows),
            "color": rng.choice(["red", "green", "blue"], rows),
            "is_new": rng.random(rows) < 0.5,
            "price": rng.normal(100, 10, rows),
            "label": np.asarray(["yes", "no"])[np.arange(rows) % 2],
        }
    )


@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_tables_of_every_format_load_alike(tmp_path, file):
    frame = table()
    if file.endswith("parquet"):
        frame.to_parquet(tmp_path / file)
    else:
        frame.to_csv(tmp_path / file, index=False, sep="\t" if "tsv" in file else ",")
    data = load_dataset(tmp_path / file, target="price", drop=["label"])
    one_hot = [(frame["color"] == name) for name in ("blue", "green", "red")]
    expected = np.stack([frame["size"], *one_hot, frame["is_new"]], axis=1)
    assert data.kind == "regression"
    assert same_examples(data, expected.astype(np.float32))


def test_table_with_classes_and_ranks(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    data = load_dataset(tmp_path / "t.csv", target="label", categorical="ordinal")
    assert data.class_names == ("no", "yes")
    assert data.input_shape == (4,)
    assert set(np.unique(data.train.inputs[:, 1])) == {0, 1, 2}


def test_table_with_several_targets(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    data = load_dataset(tmp_path / "t.csv", target=["price", "size"], drop=["label"])
    assert (data.kind, data.outputs) == ("regression", 2)


def test_missing_values_in_a_table_are_refused_or_replaced(tmp_path):
    frame = table()
    frame.loc[3, "size"] = np.nan
    frame.loc[5, "color"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"column 'size' has 1 missing values, the first in row 3.*missing='median'"):
        load_dataset(tmp_path / "t.csv", target="price")
    data = load_dataset(tmp_path / "t.csv", target="price", drop=["label"], missing="median")
    assert data.input_shape == (6,)  # size, three colours, the missing colour, is_new
    assert np.isfinite(all_inputs(data)).all()


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda f: f, {}, "pass target=…; the columns are 'size', 'color'"),
        (lambda f: f, {"target": "prise"}, "no column 'prise'; did you mean 'price'"),
        (lambda f: f, {"target": "price", "drop": ["labels"]}, "no column 'labels'; did you mean 'label'"),
        (lambda f: f.assign(price=f["price"].where(f.index != 4)), {"target": "price"}, "1 values .* row 4"),
        (lambda f: f.assign(label="yes"), {"target": "label"}, "only one class, 'yes'"),
        (lambda f: f.iloc[:0], {"target": "price"}, "no rows"),
        (lambda f: f, {"target": "price", "categorical": "hash"}, "'one_hot' or 'ordinal'"),
        (lambda f: f, {"target": "price", "targett": "x"}, "unknown setting 'targett'; did you mean 'target'"),
        (lambda f: f[["price"]], {"target": "price"}, "no column besides the target"),
    ],
)
def test_bad_tables_are_one_clear_error(tmp_path, change, settings, message):
    change(table()).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "t.csv", **settings)


def test_free_text_is_no_category(tmp_path):
    table(200).assign(id=[f"row {i}" for i in range(200)]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"'id' has 200 different texts.*drop=\['id'\]"):
        load_dataset(tmp_path / "t.csv", target="price")


def write_images(folder, images, mode="L"):
    for index, (image, label) in enumerate(zip(images, LABELS, strict=False)):
        group = folder / f"class {label}"
        group.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert(mode).save(group / f"{index}.png")


def test_image_folder(tmp_path):
    write_images(tmp_path / "set", PIXELS)
    data = load_dataset(tmp_path / "set")
    assert data.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert data.input_shape == (1, 6, 5)
    assert same_examples(data, PIXELS)
    assert load_dataset(tmp_path / "set", color="rgb", image_size=4).input_shape == (3, 4, 4)


def test_image_folder_with_parts(tmp_path):
    write_images(tmp_path / "set" / "train", PIXELS, "RGB")
    write_images(tmp_path / "set" / "val", PIXELS[:8], "RGB")
    write_images(tmp_path / "set" / "test", PIXELS[:4], "RGB")
    data = load_dataset(tmp_path / "set")
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 8, 4)
    assert data.input_shape == (3, 6, 5)


def test_a_folder_of_other_things_is_not_searched_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.datasets.image_folder.STRAY", 4)
    for group in ("a", "b"):
        (tmp_path / group / "deeper").mkdir(parents=True)
        (tmp_path / group / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no images"):
        load_dataset(str(tmp_path))
    (tmp_path / "a" / "more").mkdir()
    with pytest.raises(DataError, match="is no folder of images: it holds more than 4 other files and folders"):
        load_dataset(str(tmp_path))


def test_image_folder_with_ragged_or_broken_images(tmp_path):
    write_images(tmp_path / "set", [*PIXELS[:39], np.zeros((3, 3), np.uint8)])
    with pytest.raises(DataError, match=r"images differ in size: .* is 5 x 6, .* is 3 x 3 .*image_size"):
        load_dataset(tmp_path / "set")
    (tmp_path / "set" / "class 0" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image"):
        load_dataset(tmp_path / "set", image_size=4)


def test_an_empty_folder_says_what_is_needed(tmp_path):
    with pytest.raises(DataError, match="holds no images; one folder per class"):
        load_dataset(tmp_path)


def idx(array):
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files(tmp_path, packed):
    files = {
        "train-images-idx3-ubyte": PIXELS,
        "train-labels-idx1-ubyte": LABELS,
        "t10k-images-idx3-ubyte": PIXELS[:4],
        "t10k-labels-idx1-ubyte": LABELS[:4],
    }
    for name, array in files.items():
        if packed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / name).write_bytes(idx(array))
    data = load_dataset(tmp_path)
    assert np.array_equal(data.test.inputs[:, 0], PIXELS[:4])
    assert np.array_equal(data.test.targets, LABELS[:4])
    assert len(data.train) + len(data.validation) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x00\x00\x0d\x01\x00\x00\x00\x01", "not an IDX file"), (idx(PIXELS)[:-1], "cut short"), (b"", "not an IDX")],
)
def test_broken_mnist_files_are_named(tmp_path, content, message):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)


def test_mnist_without_labels_says_which_file_is_missing(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    with pytest.raises(DataError, match="no file train-labels"):
        load_dataset(tmp_path)


def test_cifar10_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(30, -1)], axis=1)
    for number, part in enumerate((records[:10], records[10:20]), start=1):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(records[20:].tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    data = load_dataset(tmp_path, validation_fraction=0.5)
    assert np.array_equal(data.test.inputs, images[20:])
    assert data.class_names == tuple("abcdefghij")
    assert same_examples(data, images)
    (tmp_path / "data_batch_2.bin").write_bytes(records.tobytes()[:-1])
    with pytest.raises(DataError, match="no multiple of 3073"):
        load_dataset(tmp_path)


MINE = """
import numpy as np
def arrays(rows=30):
    return np.arange(rows * 2.0).reshape(rows, 2), np.arange(rows) % 3
def split():
    from workers.datasets.load import load_dataset
    return load_dataset("iris")
pair = arrays()
nothing = 7
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab_data.py").write_text(MINE)
    (tmp_path / "lab_broken.py").write_text("raise OSError('no such disk')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("lab_data", None)


@pytest.mark.usefixtures("lab")
def test_data_of_ones_own():
    allow = ["lab_data", "lab_broken"]
    assert load_dataset("lab_data:pair", allow=allow).outputs == 3
    data = load_dataset("lab_data:arrays", allow=allow, rows=90, test_fraction=0.1)
    assert len(data.test) == 9
    assert load_dataset("lab_data:split", allow=allow).name == "iris"
    with pytest.raises(DataError, match="split already; leave out test_fraction"):
        load_dataset("lab_data:split", allow=allow, test_fraction=0.1)
    with pytest.raises(DataError, match="gave a int; allowed are"):
        load_dataset("lab_data:nothing", allow=allow)
    with pytest.raises(LoadError, match="OSError: no such disk"):
        load_dataset("lab_broken:x", allow=allow)
    with pytest.raises(LoadError, match="has no 'pear'; did you mean 'pair'"):
        load_dataset("lab_data:pear", allow=allow)


@pytest.mark.usefixtures("lab")
def test_code_that_is_not_allowed_is_not_imported():
    with pytest.raises(ImportRefused, match="--allow lab_data"):
        load_dataset("lab_data:pair")
    assert "lab_data" not in sys.modules


def test_it_is_known_which_names_would_import_code():
    assert module_of("my_lab.data:train") == "my_lab.data"
    assert module_of("digits") is module_of("folder/file.csv") is None


def test_unknown_names_and_files_name_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"no data set 'digit'.*did you mean 'digits'\?.*breast_cancer, diabetes"):
        load_dataset("digit")
    (tmp_path / "cells.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"did you mean '.*cells.csv'"):
        load_dataset(tmp_path / "cell.csv")
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(DataError, match=r"files may be \.npz, \.csv"):
        load_dataset(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"unknown setting 'test_frac'; did you mean 'test_fraction'"):
        load_dataset("digits", test_frac=0.1)


def test_the_same_splits_come_every_time():
    first, second = load_dataset("digits", split_seed=3), load_dataset("digits", split_seed=3)
    assert np.array_equal(first.validation.inputs, second.validation.inputs)
    assert not np.array_equal(first.validation.inputs, load_dataset("digits", split_seed=4).validation.inputs)


def test_digits_are_stratified():
    data = load_dataset("digits")
    shares = [np.bincount(split.targets) / len(split) for split in (data.train, data.validation, data.test)]
    assert np.allclose(shares[0], shares[1], atol=0.01)
    assert np.allclose(shares[0], shares[2], atol=0.01)


@pytest.mark.slow
def test_mnist_has_its_published_mean_and_deviation(benchmark_data):
    data = load_dataset(benchmark_data / "mnist" / "mnist.npz")
    assert (len(data.train) + len(data.validation), len(data.test)) == (60000, 10000)
    assert abs(data.mean.item() / 255 - 0.1307) < 5e-4
    assert abs(data.scale.item() / 255 - 0.308) < 5e-4


def test_published_regression_splits(benchmark_data):
    file = benchmark_data / "uci_regression" / "yacht.npz"
    with np.load(file, allow_pickle=False) as arrays:
        x, masks = arrays["X"], arrays["test_mask"]
    for split in (0, 19):
        mask = np.unpackbits(masks[split])[: len(x)].astype(bool)
        data = load_dataset(file, split=split)
        assert np.array_equal(data.test.inputs, x[mask])
        assert data.kind == "regression"
    with pytest.raises(DataError, match="from 0 to 19"):
        load_dataset(file, split=20)
