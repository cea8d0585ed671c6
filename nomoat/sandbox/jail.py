"""What runs in the jail, handed to a bare interpreter as text: shuts itself in, says so, then obeys lines.

Lines in: a literal of settings, the candidate's source, then one input at a time.  Lines out: "ready" (before
any foreign code is here), then ["ok", value] or ["error", kind, message].  Nothing but "ready" is trusted.
"""

import ctypes
import os
import resource
import struct
import sys
from _json import encode_basestring_ascii as quoted


def must(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def landlock(libc: ctypes.CDLL, rules: list) -> None:
    """From here on only what `rules`, [(path, rights)], allow; no TCP, abstract sockets, signals outwards."""
    abi = must(libc.syscall(444, None, 0, 1))
    n_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    size = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(abi, 24)
    attributes = struct.pack("QQQ", (1 << n_rights) - 1, 3, 3)
    ruleset = must(libc.syscall(444, attributes, size, 0))
    for path, allowed in rules:
        place = os.open(path, os.O_PATH)
        must(libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0))
        os.close(place)
    must(libc.syscall(446, ruleset, 0))
    os.close(ruleset)


def shut(settings: dict) -> None:
    """Limits, no privileges, Landlock where asked for, seccomp."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    must(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    if settings["rules"]:
        must(libc.prctl(1, 9, 0, 0, 0))  # PR_SET_PDEATHSIG
        landlock(libc, settings["rules"])
        os.chdir("/")
        must(libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))  # root loses what makes it root
    for name, value in settings["limits"].items():
        limit = getattr(resource, "RLIMIT_" + name)
        top = resource.getrlimit(limit)[1]
        if top == resource.RLIM_INFINITY or top > value:
            resource.setrlimit(limit, (value, value + (name == "CPU")))  # SIGXCPU, then SIGKILL
    code = ctypes.create_string_buffer(settings["filter"], len(settings["filter"]))
    program = struct.pack("HxxxxxxP", len(settings["filter"]) // 8, ctypes.addressof(code))
    must(libc.prctl(22, 2, program, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


SHOWN = {str: quoted, int: int.__repr__, float: float.__repr__}


def as_json(value: object) -> str:
    """JSON with string keys only; a tuple is a list.  NaN comes out as what no JSON reader takes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    for kind, show in SHOWN.items():
        if isinstance(value, kind):
            return show(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_json, value)) + "]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        pairs = (f"{quoted(key)}:{as_json(part)}" for key, part in value.items())
        return "{" + ",".join(pairs) + "}"
    raise TypeError(f"{type(value).__name__} is not JSON")


def attempt(action, *args) -> str:
    try:
        return f'["ok",{as_json(action(*args))}]'
    except BaseException as error:
        try:
            message = str(error)[:200]
        except BaseException:
            message = ""
        return f'["error",{quoted(type(error).__name__)},{quoted(message)}]'


def main() -> None:
    orders, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    try:
        settings = eval(orders.readline())  # a literal, from the trusted side
        null = os.open(os.devnull, os.O_RDWR)
        shut(settings)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
    except Exception as error:
        os.write(answers, f"jail: {error!r}\n".encode())
        return
    os.write(answers, b"ready\n")
    source = eval(orders.readline())
    module = sys.modules["candidate"] = type(sys)("candidate")

    def load() -> None:
        exec(compile(source, "<candidate>", "exec"), module.__dict__)
        if not callable(getattr(module, "f", None)):
            raise NameError("the program defines no f(x)")

    reply = attempt(load)
    while True:
        line = (reply + "\n").encode()
        while line:
            line = line[os.write(answers, line) :]
        order = orders.readline()
        if not order:
            return
        reply = attempt(module.f, eval(order))


if __name__ == "__main__":
    main()
