"""A gRPC client that shares no code with Hybrid-Grid: checks health, lists the
workers, has a preprocessed C text compiled, and writes the object.

    client.py STUBS ADDRESS TEXT OBJECT

STUBS is the folder of the generated modules, ADDRESS is HOST:PORT, TEXT what
`gcc -E -fdirectives-only` made, OBJECT where the object goes. HG_TOKEN is a join
token for a client. Prints one line for each step; the exit code is the
compiler's."""

import base64
import hashlib
import os
import queue
import ssl
import subprocess
import sys

import grpc
from blake3 import blake3
from grpc_health.v1 import health_pb2, health_pb2_grpc

CHUNK_BYTES = 64 << 10
SECONDS_MAX = 60


def main(stubs, address, text_path, object_path):
    sys.path.insert(0, stubs)
    from hybridgrid.v1 import build_pb2, build_pb2_grpc, task_pb2

    token = os.environ["HG_TOKEN"]
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(certificate(address, token).encode()),
        grpc.access_token_call_credentials(token),
    )
    # A name in the certificate that every coordinator makes for itself.
    name = [("grpc.ssl_target_name_override", "hybridgrid")]
    with grpc.secure_channel(address, credentials, name) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hybridgrid.v1.BuildService"):
            request = health_pb2.HealthCheckRequest(service=service)
            status = health.Check(request, timeout=SECONDS_MAX).status
            assert status == health_pb2.HealthCheckResponse.SERVING, (service, status)
        print("health: SERVING")

        grid = build_pb2_grpc.BuildServiceStub(channel)
        workers = grid.ListWorkers(build_pb2.ListWorkersRequest(), timeout=SECONDS_MAX).workers
        print("workers:", " ".join(sorted(worker.name for worker in workers)))

        with open(text_path, "rb") as file:
            text = file.read()
        task = make_task(task_pb2, gcc_for_c(task_pb2, workers), text)
        result, content = submit(build_pb2, grid, task, text)

    sys.stderr.buffer.write(result.stderr)
    if result.exit_code == 0:
        (output,) = result.outputs
        if output.encoding == task_pb2.ENCODING_ZSTD:
            content = unzstd(content)
        assert len(content) == output.size, (len(content), output.size)
        assert blake3(content).digest() == output.digest
        with open(object_path, "wb") as file:
            file.write(content)
        print("object:", len(content), "bytes")
    return result.exit_code


def certificate(address, token):
    """The coordinator's certificate in PEM, if it is the one that the token names:
    the SHA-256 of it is the last but one 32 bytes of the token."""
    payload = token.split(".", 1)[1]
    named = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))[-64:-32]
    host, port = address.rsplit(":", 1)
    pem = ssl.get_server_certificate((host, int(port)))
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
    assert shown == named, "another coordinator's certificate"
    return pem


def gcc_for_c(task_pb2, workers):
    """The one that `gcc` is here: workers may have several."""
    gcc = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, check=True)
    version = gcc.stdout.decode().strip()
    for worker in workers:
        for toolchain in worker.toolchains:
            if (toolchain.family, toolchain.language, toolchain.version) == (
                task_pb2.FAMILY_GCC,
                task_pb2.LANGUAGE_C,
                version,
            ):
                # The task is one of preprocessed text, whatever else it takes.
                toolchain.tree = False
                return toolchain
    raise SystemExit("no worker has gcc for C")


def make_task(task_pb2, toolchain, text):
    arguments = "-O2 -fpreprocessed -fdirectives-only -x c -c hello.i -o hello.o"
    return task_pb2.Task(
        toolchain=toolchain,
        arguments=[word.encode() for word in arguments.split()],
        inputs=[
            task_pb2.Input(
                path=b"hello.i",
                digest=blake3(text).digest(),
                size=len(text),
                encoding=task_pb2.ENCODING_IDENTITY,
                encoded_size=len(text),
            )
        ],
        outputs=[b"hello.o"],
        source="hello.c",
        client="python",
    )


def submit(build_pb2, grid, task, text):
    """The TaskResult, and the bytes of its only output as they travelled."""
    requests = queue.Queue()
    requests.put(build_pb2.SubmitRequest(task=task))
    content = b""
    for response in grid.SubmitTask(iter(requests.get, None), timeout=SECONDS_MAX):
        kind = response.WhichOneof("kind")
        if kind == "started":
            print("started:", response.started.worker)
            content = b""
        elif kind == "need":
            for digest in response.need.digests:
                assert digest == blake3(text).digest()
            for chunk in chunks(build_pb2, response.need.attempt, text):
                requests.put(chunk)
        elif kind == "chunk":
            assert len(response.chunk.data) <= CHUNK_BYTES
            content += response.chunk.data
        elif kind == "finished":
            requests.put(None)
            return response.finished.result, content
        elif kind == "failure":
            raise SystemExit(f"failure: {response.failure}")
    raise SystemExit("the stream ended without a result")


def chunks(build_pb2, attempt, text):
    for start in range(0, max(len(text), 1), CHUNK_BYTES):
        chunk = build_pb2.InputChunk(
            attempt=attempt,
            input=0,
            data=text[start : start + CHUNK_BYTES],
            last=start + CHUNK_BYTES >= len(text),
        )
        yield build_pb2.SubmitRequest(chunk=chunk)


def unzstd(content):
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
