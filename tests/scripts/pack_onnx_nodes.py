"""Packs the node tests of ONNX that concern niwaki into one archive.

    python3 tests/scripts/pack_onnx_nodes.py FOLDER ARCHIVE

FOLDER is `onnx/backend/test/data/node` of the Python package `onnx`, which also has to be installed. For each
test kept, ARCHIVE (a .tar.gz) holds `NAME/model.onnx` and its `input_N.pb` and `output_N.pb`; the entry
`skipped` has a line for each other test, with the reason. The same FOLDER gives the same bytes.
"""

import gzip
import io
import sys
import tarfile
from pathlib import Path

try:
    import onnx
    from onnx import AttributeProto, TensorProto
except Exception as error:  # A library that is there may still lack others.
    print(f"no ONNX: {error}")
    sys.exit(77)

TYPES = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL,
    TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8,
    TensorProto.UINT64, TensorProto.UINT32, TensorProto.UINT16, TensorProto.UINT8,
}
OPERATORS = {
    "Adagrad": "training", "Adam": "training", "Momentum": "training", "Gradient": "training",
    "SoftmaxCrossEntropyLoss": "training", "NegativeLogLikelihoodLoss": "training",
    "ImageDecoder": "pictures in files", "TfIdfVectorizer": "text", "StringNormalizer": "text",
    "RegexFullMatch": "text", "StringConcat": "text", "StringSplit": "text", "LabelEncoder": "text",
}
DOMAINS = {"ai.onnx.ml": "classic machine learning", "ai.onnx.preview.training": "training"}
LIMIT = 100_000


def types(kind):
    which = kind.WhichOneof("value")
    if which is None:
        return None  # A graph inside may leave it open.
    if which in ("sequence_type", "optional_type"):
        return types(getattr(kind, which).elem_type)
    if which != "tensor_type":
        return f"{which.removesuffix('_type')}s"
    code = kind.tensor_type.elem_type
    if code not in TYPES:
        return f"elements of type {TensorProto.DataType.Name(code).lower()}"
    return None


def graph_reason(graph):
    for value in list(graph.input) + list(graph.output):
        if reason := types(value.type):
            return reason
    for node in graph.node:
        if node.domain in DOMAINS:
            return DOMAINS[node.domain]
        if node.op_type in OPERATORS:
            return OPERATORS[node.op_type]
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH and (reason := graph_reason(attribute.g)):
                return reason
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i not in TYPES | {0}:
                return f"elements of type {TensorProto.DataType.Name(attribute.i).lower()}"
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type not in TYPES:
                return f"elements of type {TensorProto.DataType.Name(attribute.t.data_type).lower()}"
    return None


def reason(name, model, size):
    if name.startswith("training_dropout"):
        return "training"
    if name.startswith("qlinearmatmul") and "_int8_" in name:
        return "results that wrap around, where the specification has them saturate"
    if any(node.op_type == "Scan" for node in model.graph.node) and model.opset_import[0].version < 9:
        return "Scan before opset 9, which is another operator"
    return graph_reason(model.graph) or (f"{size} bytes" if size > LIMIT else None)


def main(folder, archive):
    out, skipped, kept = io.BytesIO(), [], 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for test in sorted(Path(folder).glob("test_*")):
            name = test.name.removeprefix("test_")
            files = [test / "model.onnx", *sorted((test / "test_data_set_0").glob("*.pb"))]
            if why := reason(name, onnx.load(test / "model.onnx"), sum(file.stat().st_size for file in files)):
                skipped.append(f"{name}: {why}\n")
                continue
            for file in files:
                add(f"{name}/{file.name}", file.read_bytes())
            kept += 1
        add("skipped", "".join(skipped).encode())
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(out.getvalue())
    Path(archive).write_bytes(packed.getvalue())
    print(f"{kept} tests, {len(skipped)} skipped, {len(packed.getvalue())} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__.strip())
        sys.exit(2)
    main(sys.argv[1], sys.argv[2])
