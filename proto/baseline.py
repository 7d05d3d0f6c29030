"""Keep what the API may never lose: the descriptor set that `buf breaking` compares proto/ with.

`make proto-baseline` writes baseline.binpb anew: with each release, and when something new is there to stay. What no server
answers yet is left out, so that it can still be changed: methods whose comment says UNIMPLEMENTED, with their messages.
"""

from __future__ import annotations

import importlib.resources
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
BASELINE = ROOT / "baseline.binpb"
UNFINISHED = "UNIMPLEMENTED in this version"
SERVICE_FIELD, METHOD_FIELD = 6, 2
"""Of FileDescriptorProto and of ServiceDescriptorProto: how a comment says what it is about."""


def compile_protos() -> FileDescriptorSet:
    """All files, what they import included, with their comments.

    Raises:
        SystemExit: If protoc refuses the files; it has said why.
    """
    with tempfile.NamedTemporaryFile() as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}",
                f"--descriptor_set_out={out.name}",
                "--include_imports",
                "--include_source_info",
                *(str(path) for path in sorted(ROOT.glob("lightmem/v1/*.proto"))),
            ]
        )
        if status != 0:
            raise SystemExit(status)
        return FileDescriptorSet.FromString(Path(out.name).read_bytes())


def drop_unfinished(file: FileDescriptorProto) -> None:
    """Take the methods out that no server answers yet, and their messages; and all comments."""
    for location in reversed(file.source_code_info.location):
        match list(location.path):
            case [int(field), service, int(member), method] if (field, member) == (SERVICE_FIELD, METHOD_FIELD):
                if UNFINISHED in " ".join(location.leading_comments.split()):
                    name = file.service[service].method[method].name
                    del file.service[service].method[method]
                    kept = [
                        type_ for type_ in file.message_type if type_.name not in (f"{name}Request", f"{name}Response")
                    ]
                    del file.message_type[:]
                    file.message_type.extend(kept)
            case _:
                pass
    file.ClearField("source_code_info")


def main() -> int:
    files = compile_protos()
    for file in files.file:
        drop_unfinished(file)
    BASELINE.write_bytes(files.SerializeToString(deterministic=True))
    print(
        f"wrote {BASELINE.name}: {sum(len(service.method) for file in files.file for service in file.service)} methods"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
