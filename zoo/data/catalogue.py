def fetch(name, cache=None):
    raise NotImplementedError
