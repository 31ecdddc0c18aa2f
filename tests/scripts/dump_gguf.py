"""Says what gguf-py reads in a file: python3 dump_gguf.py FILE
One line for each key (its type, and value or length) and each tensor (type, dimensions, a sum of its bytes)."""
import struct, sys
from gguf import GGUFReader, GGUFValueType as T

def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]
def quoted(text):
    return '"' + text.replace("\n", "\\n") + '"'
reader = GGUFReader(sys.argv[1])
out = []
for field in list(reader.fields.values())[3:]:  # the first three are version and counts
    kind = field.types[0]
    if kind == T.ARRAY:
        # An empty array leaves no trace of its type but in the file.
        element = int(field.parts[3][0])
        out.append(f"{field.name} array {element} {int(field.parts[4][0])}")
        continue
    value = field.contents()
    if kind == T.STRING:
        said = quoted(value)
    elif kind in (T.FLOAT32, T.FLOAT64):
        said = bits(float(value))
    else:
        said = int(value)
    out.append(f"{field.name} {int(kind)} {said}")
for t in reader.tensors:
    total = 0
    for byte in t.data.tobytes():
        total = (total * 31 + byte) & 0xFFFFFFFF
    out.append(f"{t.name} {t.tensor_type.name} {','.join(str(int(d)) for d in t.shape)} {total}")
sys.stdout.write("".join(line + "\n" for line in out))
