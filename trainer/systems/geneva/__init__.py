"""GeNeVA-GAN (El-Nouby et al., 2019): a picture after every turn, each painted from the one before it."""
