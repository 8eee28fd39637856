"""graft from Python without a binding: graft_ctypes.py LIBRARY MODEL [PROMPT]

Every language that can call C can do this; ctypes is part of Python.
"""

import ctypes as c
import sys

TEXT_FN = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.POINTER(c.c_char), c.c_size_t)


class GenerateRequest(c.Structure):
    """graft_generate_request; what is left out at the end reads as zero, the default."""

    _fields_ = [
        ("struct_size", c.c_uint32),
        ("flags", c.c_uint32),
        ("timeout_ms", c.c_uint64),
        ("max_tokens", c.c_uint32),
        ("reserved_0", c.c_uint32),
        ("messages", c.c_void_p),
        ("n_messages", c.c_size_t),
        ("chat", c.c_void_p),
        ("text", c.c_char_p),
        ("text_len", c.c_size_t),
        ("tokens", c.c_void_p),
        ("n_tokens", c.c_size_t),
        ("images", c.c_void_p),
        ("n_images", c.c_size_t),
        ("sampling", c.c_void_p),
        ("stops", c.c_void_p),
        ("n_stops", c.c_size_t),
        ("cancel", c.c_void_p),
        ("on_text", TEXT_FN),
    ]


class Graft:
    def __init__(self, path):
        self.library = c.CDLL(path)
        for name in ("graft_error_message", "graft_library_version_string"):
            getattr(self.library, name).restype = c.c_char_p
        if self.library.graft_library_abi() != 0:
            sys.exit(f"{path} is of another ABI than this program")

    def call(self, name, *arguments):
        """Calls a function whose last parameter is an error object, and raises what it says."""
        error = c.c_void_p()
        status = getattr(self.library, name)(*arguments, c.byref(error))
        if status < 0:
            message = self.library.graft_error_message(error).decode()
            self.library.graft_error_release(error)
            raise RuntimeError(message)
        return status


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: graft_ctypes.py LIBRARY MODEL [PROMPT]")
    graft = Graft(sys.argv[1])
    prompt = sys.argv[3] if len(sys.argv) > 3 else "Once upon a time"
    model, session = c.c_void_p(), c.c_void_p()
    graft.call("graft_model_open", None, sys.argv[2].encode(), None, c.byref(model))
    graft.call("graft_session_create", model, None, c.byref(session))

    def on_text(_, text, length):
        print(c.string_at(text, length).decode(), end="", flush=True)
        return 0

    text = prompt.encode()
    request = GenerateRequest(
        struct_size=c.sizeof(GenerateRequest),
        max_tokens=32,
        text=text,
        text_len=len(text),
        on_text=TEXT_FN(on_text),
    )
    graft.call("graft_session_generate", session, c.byref(request), None)
    print()
    graft.library.graft_session_release(session)
    graft.library.graft_model_release(model)


if __name__ == "__main__":
    main()
