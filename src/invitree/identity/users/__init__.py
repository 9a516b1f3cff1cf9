"""Users: accounts and passwords. An address is unique in its program whatever its case, width or spelling."""
