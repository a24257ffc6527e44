"""sg2im: scene graphs to pictures by way of boxes and masks (Johnson et al., 2018; google/sg2im)."""
