"""llama.cpp's own routes, for its clients and web pages: `/completion`, `/props`, `/slots`, ..."""
