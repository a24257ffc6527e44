"""AttnGAN (Xu et al., 2018), and dialogue beside its words: branches that paint larger and larger by attention."""
