"""The models: where they are, and inputs that they make something of."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

GLYPHS = ["10001 10001 10001 11111 10001 10001 10001", "11111 10000 10000 11110 10000 10000 11111"]
GLYPHS += ["10000 10000 10000 10000 10000 10000 11111", "01110 10001 10001 10001 10001 10001 01110"]
WORD = (0, 1, 2, 2, 3)


def _folder(package):
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0])


def _ocr(pattern, height, width):
    (path,) = (_folder("rapidocr_onnxruntime") / "models").glob(pattern)
    return onnx.load(path), {"x": [1, 3, height, width]}


def _magika():
    (path,) = (_folder("magika") / "models").glob("standard_*/model.onnx")
    return onnx.load(path), {"bytes": [1, 2048]}


def light_resnet50():
    """ResNet-50 with weights that are all alike; every image gets the same answer."""
    return onnx.load(_folder("onnx") / "backend/test/data/light/light_resnet50.onnx"), {}


def seeded_resnet50():
    """light_resnet50 with random weights, scaled so that the activations neither vanish nor explode."""
    model, lens = light_resnet50()
    graph, random = model.graph, np.random.default_rng(50)
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    readers = {name: (node, place) for node in graph.node for place, name in enumerate(node.input)}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        name, lens_ = node.output[0], shapes[node.input[0]]
        reader, place = readers[name]
        graph.node.remove(node)
        graph.initializer.append(numpy_helper.from_array(_weights(random, reader.op_type, place, lens_), name))
    return model, lens


def _weights(random, operator, place, lens):
    if operator == "BatchNormalization":
        low, high = {1: (0.5, 1.0), 2: (-0.2, 0.2), 3: (-0.2, 0.2), 4: (0.5, 1.5)}[place]
        return random.uniform(low, high, lens).astype(np.float32)
    # The last layer is a Gemm with transposed weights: inputs per output are all axes but the first, in both.
    inputs = max(1, int(np.prod(lens[1:])))
    return (random.standard_normal(lens) * np.sqrt(2 / inputs)).astype(np.float32)


MODELS = {
    "det": lambda: _ocr("*_det_*", 320, 320),
    "rec": lambda: _ocr("*_rec_*", 48, 320),
    "cls": lambda: _ocr("*_cls_*", 48, 192),
    "magika": _magika,
    "light_resnet50": light_resnet50,
    "seeded_resnet50": seeded_resnet50,
}


def inputs_of(session, lens, seed=0):
    """Noise for each input of a session: bytes for the int32 ones, else a normal distribution."""
    random = np.random.default_rng(seed)
    values = {}
    for given in session.get_inputs():
        shape = lens.get(given.name, given.shape)
        if given.type == "tensor(int32)":
            values[given.name] = random.integers(0, 256, shape).astype(np.int32)
        else:
            values[given.name] = random.standard_normal(shape).astype(np.float32)
    return values


def writing(height, width, scale):
    """A word in dark on light, as the OCR models take images: 1x3xHxW between -1 and 1."""
    glyphs = [np.array([list(map(int, row)) for row in glyph.split()]) for glyph in GLYPHS]
    word = np.concatenate([np.pad(glyphs[index], ((0, 0), (0, 2))) for index in WORD], axis=1)
    word = np.kron(word, np.ones((scale, scale)))
    image = np.ones((height, width), np.float32)
    top, left = (height - word.shape[0]) // 2, (width - word.shape[1]) // 2
    image[top : top + word.shape[0], left : left + word.shape[1]] -= 2 * word
    return np.broadcast_to(image, (1, 3, height, width)).copy()
