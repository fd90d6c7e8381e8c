"""nipype interfaces: load files, call one pure function, save."""
