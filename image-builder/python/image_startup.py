
# Pyram: lets a program see that it runs out of an image. A plain class, because newer versions of
# PyPy make no second sys.version_info.
class _PyramVersion(tuple):
    __slots__ = ()
    major = property(lambda self: self[0])
    minor = property(lambda self: self[1])
    micro = property(lambda self: self[2])
    releaselevel = property(lambda self: self[3])
    serial = property(lambda self: self[4])
    def __repr__(self):
        return ('sys.pyram_version_info(major=%d, minor=%d, micro=%d, '
                'releaselevel=%r, serial=%d)' % tuple(self))
_PyramVersion.__name__ = _PyramVersion.__qualname__ = 'pyram_version_info'
_PyramVersion.__module__ = 'sys'
sys.pyram_version_info = _PyramVersion((@VERSION@, 'final', 0))
del _PyramVersion

# What the launcher added to the environment for PyPy's garbage collector (PYPY_GC_NURSERY and others)
# was read before any Python ran. It is taken away before os.environ is made of it, so that neither
# the script nor its children see it. Children get settings of their own when they start.
def _forget_added():
    import posix
    names = posix.environ.pop(b'PYRAM_ADDED_VARIABLES', None)
    if names is not None:
        posix.unsetenv(b'PYRAM_ADDED_VARIABLES')
        for name in names.split(b','):
            if name.startswith((b'PYPY_GC_', b'GLIBC_TUNABLES')) and posix.environ.pop(name, None) is not None:
                posix.unsetenv(name)
_forget_added()
del _forget_added

# PyPy ends with "unsupported locale setting" where the environment names a locale that this machine doesn't
# have, as after an ssh from another one. CPython goes on with the C locale and UTF-8, and so does this.
def _use_known_locale():
    import posix
    environ = posix.environ
    for name in (b'LC_ALL', b'LC_CTYPE', b'LANG'):
        wanted = environ.get(name)
        if wanted:
            break
    else:
        return
    if wanted in (b'C', b'C.UTF-8', b'C.utf8', b'POSIX'):  # The C library's own.
        return
    import _locale
    before = _locale.setlocale(_locale.LC_CTYPE, None)
    try:
        _locale.setlocale(_locale.LC_CTYPE, '')
    except _locale.Error:
        if name == b'LANG':
            name = b'LC_CTYPE'
        environ[name] = b'C.UTF-8'
        posix.putenv(name, b'C.UTF-8')
    else:
        _locale.setlocale(_locale.LC_CTYPE, before)
_use_known_locale()
del _use_known_locale

def _replace(owner, function):
    """Put function in place of the usual one of its name, which is returned."""
    usual = getattr(owner, function.__name__)
    function.__module__, function.__qualname__ = usual.__module__, usual.__qualname__
    function.__doc__ = usual.__doc__
    # Tracebacks leave out the import system's own frames, which they know by their file.
    function.__code__ = function.__code__.replace(co_filename=usual.__code__.co_filename)
    setattr(owner, function.__name__, function)
    return usual


# open() asks each file whether it is a terminal, and a file system of FUSE's is asked every time. A
# module is none, so its bytes are read without asking: a request less for each import.
#
# The image's own modules are found in an index that its builder made, and their bytecode is read at
# once: no directory is listed and no source looked at. Finders, loaders and specs are the usual ones and
# hold what they always hold. Whatever isn't plain goes the usual way: other directories, those that
# aren't as the image has them any more (their time tells), modules without bytecode, finders with
# other loaders, and a Python that was told to keep bytecode elsewhere or to say what it does.
#
# An unpacked image may be edited, and its bytecode says that it is never checked. So where the marker of
# an unpacked image is found, a source is looked at (but not read): one whose time isn't that of the image
# is compared with what its bytecode was made of.
def _import_fast(loaders, stdlib, replace):
    FileFinder, FileLoader, SourceFileLoader = (
        loaders.FileFinder, loaders.FileLoader, loaders.SourceFileLoader)
    FileIO, stat, ModuleSpec = loaders._io.FileIO, loaders._path_stat, loaders._bootstrap.ModuleSpec

    def get_data(self, path):
        """Return the data from path as raw bytes."""
        with FileIO(path, 'r') as file:
            return file.read()

    replace(FileLoader, get_data)
    if sys.flags.verbose:
        return
    import marshal
    root = stdlib[:-len('@STDLIB@')]
    try:
        time, directories = marshal.loads(get_data(None, root + '@INDEX@'))
    except (OSError, EOFError, ValueError, TypeError):
        return
    is_unpacked = loaders._path_isfile(root + '@UNPACKED@')
    # What -O and -OO change of the plain bytecode (see bytecode_delta.py). A module that isn't there
    # has the same bytecode with and without the option.
    level = sys.flags.optimize
    changed = {}
    if level:
        from itertools import accumulate, chain
        try:
            changed, all_edges, all_lengths, texts = marshal.loads(
                get_data(None, root + '@DELTAS@-%d' % min(level, 2)))
            all_edges, all_lengths = memoryview(all_edges), memoryview(all_lengths)
        except (OSError, EOFError, ValueError, TypeError):
            changed = None  # Modules are found by the index, and compiled.
    imp, implementation, compile_bytecode = (
        loaders._imp, sys.implementation, loaders._compile_bytecode)
    tag = implementation.cache_tag
    plain = '.' + tag + '.pyc'
    suffix = '.%s.opt-%d.pyc' % (tag, level) if level else plain
    begin = loaders.MAGIC_NUMBER + b'\1\0\0\0'  # Bytecode that is never checked against a source.
    usual_loaders = FileFinder('/', *loaders._get_supported_file_loaders())._loaders
    known = {}     # Directory -> {name: 0 for a module, 1 for a package, 2 for anything else}.
    bytecode = {}  # Source -> bytecode, of those that were found.
    get_code_checked = None

    def names_in(directory):
        names = None
        if directory.startswith(root):
            kinds = directories.get(directory[len(root):])
            if kinds is not None:
                names = {}
                for kind, text in enumerate(kinds):
                    names.update(dict.fromkeys(text.split('\n'), kind))
        known[directory] = names
        return names

    def find_spec(self, fullname, target=None):
        directory = self.path
        try:
            names = known[directory]
        except KeyError:
            names = names_in(directory)
        if (names is None or self._loaders != usual_loaders or implementation.cache_tag != tag
                or sys.pycache_prefix is not None):
            return usual_find_spec(self, fullname, target)
        name = fullname.rpartition('.')[2]
        kind = names.get(name)
        try:
            if kind == 2 or stat(directory).st_mtime != time:
                return usual_find_spec(self, fullname, target)
        except OSError:
            return usual_find_spec(self, fullname, target)
        if kind is None:
            return None
        if kind == 1:
            directory += '/' + name
            name = '__init__'
        path = directory + '/' + name + '.py'
        spec = ModuleSpec(fullname, SourceFileLoader(fullname, path), origin=path)
        spec._set_fileattr = True
        if kind == 1:
            spec.submodule_search_locations = [directory]
        name = directory + '/__pycache__/' + name
        spec.cached = name + suffix
        if changed is not None:
            bytecode[path] = name + plain
        return spec

    def optimised(data, source_hash, first, count, text):
        """The optimised bytecode of a module, or None where the plain one is of another source."""
        if data[8:12] != source_hash:
            return None
        last = first + count
        # Without a loop in Python: it would run thousands of times in a start, not compiled yet.
        edges = list(accumulate(all_edges[4 * first:4 * last].cast('H'), initial=16))
        cuts = list(accumulate(all_lengths[2 * first:2 * last].cast('H'), initial=text))
        kept = map(data.__getitem__, map(slice, edges[0::2], edges[1::2]))
        put = map(texts.__getitem__, map(slice, cuts, cuts[1:]))
        return b''.join(chain.from_iterable(zip(kept, put)))

    def is_edited(path):
        if type(path) is not str or not path.startswith(root):
            return False
        try:
            return stat(path).st_mtime != time
        except OSError:
            return False

    def get_code_of_edited(self, fullname):
        """The usual get_code, which asks the source's hash whether bytecode is of this source."""
        nonlocal get_code_checked
        if get_code_checked is None:
            # With names of its own instead of a setting of _imp, which other threads read as well.
            class Checking:
                check_hash_based_pycs = 'always'
                source_hash = staticmethod(imp.source_hash)

            # Bytecode that is checked always, so that it isn't taken when the source is put back with the
            # image's time.
            def to_checked_pyc(code, source_hash, checked=True):
                return loaders._code_to_hash_pyc(code, source_hash, True)

            get_code_checked = type(usual_get_code)(
                usual_get_code.__code__,
                dict(vars(loaders), _imp=Checking, _code_to_hash_pyc=to_checked_pyc))
        return get_code_checked(self, fullname)

    def get_code(self, fullname):
        path = self.path
        if is_unpacked and is_edited(path) and imp.check_hash_based_pycs != 'never':
            return get_code_of_edited(self, fullname)
        cached = bytecode.get(path) if type(path) is str else None
        if (cached is not None and type(self) is SourceFileLoader and self.name == fullname
                and sys.pycache_prefix is None and imp.check_hash_based_pycs != 'always'):
            try:
                data = get_data(self, cached)
            except OSError:
                data = b''
            if data.startswith(begin):
                delta = changed.get(path[len(root):])
                data = memoryview(data)[16:] if delta is None else optimised(data, *delta)
                if data is not None:
                    return compile_bytecode(data, name=fullname, bytecode_path=cached,
                                            source_path=path)
        return usual_get_code(self, fullname)

    usual_find_spec = replace(FileFinder, find_spec)
    usual_get_code = replace(SourceFileLoader, get_code)


# The body of a module runs once. The JIT traces its loops all the same, which takes a quarter of a
# Django start. So the threshold of loops is higher while a thread loads a module, and PyPy's own
# again afterwards. That of functions stays: with a higher one a recursive function is compiled as a
# part of what calls it, and stays two to three times slower.
#
# A whole program can run inside an import. Its loops still get hot with the higher threshold. And
# when no module has begun to load for PAUSE seconds, the import counts as over: the threshold goes
# back. A minor collection of the garbage collector is when this is looked at, as every program that
# runs in the interpreter allocates. The next module that loads raises them again.
#
# Parameters that the user gave win: after --jit, -X jit-off, PYPY_DISABLE_JIT or a call of
# pypyjit.set_param, inside an import or not, nothing is raised or put back any more.
def _import_untraced(loaders, replace):
    if 'pypyjit' in sys.modules:  # Imported so early for an option only.
        return
    try:
        import __pypy__, _thread, gc, posix, pypyjit, time
        default = 'threshold=%d' % pypyjit.defaults['threshold']
        ident, clock, hooks = _thread.get_ident, time.monotonic, gc.hooks
        hooks.on_gc_minor
    except (ImportError, AttributeError, KeyError):
        return
    PAUSE = 0.02
    # Each list holds one text, or none once the user has set parameters.
    raised, usual = ['threshold=20000'], [default]
    importing = {}  # The threads whose outermost import runs.
    began = 0.0     # When a module last began to load.
    usual_set_param = pypyjit.set_param

    def apply(texts):
        # One call of a built-in function: no other thread and no signal handler can empty the list
        # between the look at it and the call of set_param.
        list(map(usual_set_param, texts))

    def on_gc_minor(stats):
        if not importing or clock() - began > PAUSE:
            importing.clear()
            apply(usual)
            # Only here, where PyPy has just taken the hook: elsewhere it could be about to call None.
            if hooks.on_gc_minor is on_gc_minor:
                hooks.on_gc_minor = None

    def after_fork():
        # The child has one thread, and what it does now isn't part of an import of its parent.
        importing.clear()
        apply(usual)

    def set_param(*args, **values):
        raised.clear()
        apply(usual)
        usual.clear()
        return usual_set_param(*args, **values)

    def exec_module(self, module):
        nonlocal began
        began = clock()
        thread = ident()
        if thread in importing or not raised:
            return usual_exec_module(self, module)
        try:
            if hooks.on_gc_minor is None:
                hooks.on_gc_minor = on_gc_minor
            if hooks.on_gc_minor is on_gc_minor:  # The user's own hook stays.
                importing[thread] = None
                apply(raised)
            return usual_exec_module(self, module)
        finally:
            importing.pop(thread, None)
            if not importing:
                apply(usual)

    set_param.__module__, set_param.__doc__ = 'pypyjit', usual_set_param.__doc__
    set_param.__qualname__ = usual_set_param.__qualname__
    pypyjit.set_param = __pypy__.builtinify(set_param)
    # Neither debuggers nor profilers see it.
    __pypy__.hidden_applevel(on_gc_minor)
    posix.register_at_fork(after_in_child=after_fork)
    usual_exec_module = replace(loaders._LoaderBasics, exec_module)


if '_frozen_importlib_external' in sys.modules:
    _import_fast(sys.modules['_frozen_importlib_external'], __path__[0][:-len('/encodings')], _replace)
    _import_untraced(sys.modules['_frozen_importlib_external'], _replace)
del _import_fast, _import_untraced, _replace
