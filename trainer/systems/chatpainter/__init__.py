"""ChatPainter (Sharma et al., 2018) over StackGAN (Zhang et al., 2017): two stages, each a system of its own."""
