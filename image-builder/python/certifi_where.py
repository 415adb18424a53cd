

# Pyram: the machine's store, wherever its distribution keeps it; else the bundle that comes along.
_bundled_where = where


def where() -> str:
    from ssl import get_default_verify_paths
    return get_default_verify_paths().cafile or _bundled_where()


def contents() -> str:
    with open(where(), "r", encoding="utf-8", errors="replace") as data:
        return data.read()
