"""Pages and pictures: what people look at rather than read."""
