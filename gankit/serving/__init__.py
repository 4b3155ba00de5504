"""The HTTP service behind ``gankit serve``, and its page. It needs the packages of ``gankit[serve]``."""
