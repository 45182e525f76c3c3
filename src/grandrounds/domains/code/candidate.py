"""The program's side of a test by calls: loads the program, and does what the tests' side asks, a line of JSON each.

It is run as text within the program's sandbox and needs the standard library alone. The program shares this process
and may change all of it. That gains it nothing: what it sends is data, and the tests' side compares.
"""

import json
import os
import sys

objects: list = []  # what is no plain value is kept here and goes by its place


def plain(value):
    """A value as JSON with tags; a reference for what is no plain value."""
    for kind, tag in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
        if isinstance(value, kind):
            return {tag: [plain(one) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(one)] for key, one in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    objects.append(value)
    return {"object": len(objects) - 1}


def meant(value):
    """The value that was sent."""
    if not isinstance(value, dict):
        return value
    ((tag, held),) = value.items()
    if tag == "object":
        return objects[held]
    if tag == "dict":
        return {meant(key): meant(one) for key, one in held}
    if tag == "bytes":
        return bytes.fromhex(held)
    if tag == "complex":
        return complex(*held)
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[tag](map(meant, held))


def load(namespace, program):
    """Run the program's text."""
    exec(compile(program, "program.py", "exec"), namespace)


def name(namespace, wanted):
    """What the program calls so; also a method of its class `Solution`, as LeetCode's tasks ask for. A list of one, or
    of none."""
    if wanted in namespace:
        return [namespace[wanted]]
    solution = namespace.get("Solution")
    return [getattr(solution(), wanted)] if hasattr(solution, wanted) else []


ACTIONS: dict = {
    "load": load,
    "name": name,
    "call": lambda namespace, function, args, kwargs: function(*args, **kwargs),
    "get": lambda namespace, value, attribute: getattr(value, attribute),
    "set": lambda namespace, value, attribute, to: setattr(value, attribute, to),
    "list": lambda namespace, value: list(value),
    "item": lambda namespace, value, key: value[key],
    "length": lambda namespace, value: len(value),
}


def serve(requests, replies):
    """Answer until nothing more is asked."""
    namespace = {"__name__": "solution"}
    for line in requests:
        action, *arguments = json.loads(line)
        try:
            reply = json.dumps({"value": plain(ACTIONS[action](namespace, *map(meant, arguments)))})
        except BaseException as error:
            reply = json.dumps({"raised": type(error).__name__, "text": str(error)[:200]})
        replies.write(reply.encode() + b"\n")
        replies.flush()


def main():
    """Keep the two pipes to the tests' side, and give the program none of them as its standard input and output."""
    sys.set_int_max_str_digits(0)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    serve(requests, replies)


if __name__ == "__main__":
    main()
