"""The networks: text, stage 1 (64 x 64) and stage 2 (256 x 256); state_dict keys equal StackGAN-Pytorch's."""
