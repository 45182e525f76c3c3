"""The tests' side of a test by calls: runs the tests, in a sandbox of its own, on what the program's side returns.

It is run as text, with a call of `main` behind it, and needs the standard library alone. The tests' functions and
comparisons run here, where no line of the program does. A call of one of the program's functions becomes a request to
its side, and what comes back is plain data, or a reference to an object that is kept there.
"""

import ast
import builtins
import importlib
import json
import os
import sys
from typing import Any

LARGEST = 2**24  # bytes of one reply
requests: Any = None
replies: Any = None


class Ended(Exception):
    """The program's side is gone, or sends what is no reply."""


class Remote:
    """An object of the program's. It equals only itself, and is neither true nor false."""

    def __init__(self, number):
        self.__dict__["number"] = number

    def __call__(self, *args, **kwargs):
        return ask("call", self, list(args), kwargs)

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return ask("get", self, attribute)

    def __setattr__(self, attribute, value):
        ask("set", self, attribute, value)

    def __iter__(self):
        return iter(ask("list", self))

    def __getitem__(self, key):
        return ask("item", self, key)

    def __len__(self):
        return ask("length", self)

    def __bool__(self):
        raise TypeError("the program returned an object instead of a value")

    def __eq__(self, other):
        return type(other) is Remote and other.__dict__ == self.__dict__

    def __hash__(self):
        return hash(self.__dict__["number"])


def sent(value):
    """A value as JSON with tags."""
    if type(value) is Remote:
        return {"object": value.__dict__["number"]}
    for kind, tag in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
        if isinstance(value, kind):
            return {tag: [sent(one) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[sent(key), sent(one)] for key, one in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the test passes a {type(value).__name__}, which cannot be sent to the program")


def meant(value):
    """The value that was sent."""
    if not isinstance(value, dict):
        return value
    ((tag, held),) = value.items()
    if tag == "object":
        return Remote(int(held))
    if tag == "dict":
        return {meant(key): meant(one) for key, one in held}
    if tag == "bytes":
        return bytes.fromhex(held)
    if tag == "complex":
        return complex(*held)
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[tag](map(meant, held))


def ask(action, *arguments):
    """What the program's side answers; raises what the program raised there."""
    try:
        requests.write(json.dumps([action, *map(sent, arguments)]).encode() + b"\n")
        requests.flush()
        line = replies.readline(LARGEST)
    except OSError as error:
        raise Ended from error
    try:
        reply = json.loads(line)
        raised = reply.get("raised")
        if raised is None:
            return meant(reply["value"])
    except Exception as error:  # the program's side may send anything
        raise Ended from error
    kind: Any = getattr(builtins, str(raised), None)
    known = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError)
    raise kind(reply.get("text")) if known else RuntimeError(f"{raised}: {reply.get('text')}")


def of_program(codes, namespace):
    """The names that tests use and nobody has defined: modules of the standard library, else what the program calls so.

    The program's own version of a builtin or a module is never used: comparisons must not be made with it.
    """
    trees = [ast.parse(code) for code in codes]
    used = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(used - namespace.keys() - set(dir(builtins))):
        if name in sys.stdlib_module_names:
            namespace[name] = importlib.import_module(name)
        elif found := ask("name", name):
            namespace[name] = found[0]


def tested(spec):
    """The cause of failure of each test, "" where it passed. Without `all` it ends with the first failure."""
    namespace, codes, causes = {"__name__": "tests"}, [spec["setup"], *spec["tests"]], []
    exec(spec["given"], namespace)
    try:
        ask("load", spec["program"])
        for name in spec["functions"]:
            found = ask("name", name)
            if not found:
                raise NameError(f"the program defines no {name}")
            namespace[name] = found[0]
        of_program(codes, namespace)
        exec(spec["setup"], namespace)
    except BaseException as error:
        return [said(error)] * (len(spec["tests"]) if spec["all"] else 1)
    for test in spec["tests"]:
        try:
            exec(test, namespace)
            causes.append("")
        except BaseException as error:
            causes.append(said(error))
            if not spec["all"]:
                break
    return causes


def said(error):
    """A failure in one line."""
    if isinstance(error, Ended):
        return "the program ended before its tests did"
    text = str(error).strip().split("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main(spec):
    """Print the verdict as JSON on standard error, with the nonce that shows that it is whole and of this test."""
    global requests, replies
    sys.set_int_max_str_digits(0)
    replies, requests = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    verdict = os.fdopen(os.dup(2), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    causes = tested(spec)
    verdict.write(json.dumps({"nonce": spec["nonce"], "causes": causes}))
    verdict.flush()
    os._exit(0)
