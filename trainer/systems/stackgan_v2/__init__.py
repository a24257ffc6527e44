"""StackGAN++ (Zhang et al., 2017; hanzhanggit/StackGAN-v2): one to three branches trained together, with dialogue."""
