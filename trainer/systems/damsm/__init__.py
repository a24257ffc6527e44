"""DAMSM (Xu et al., 2018, section 3.2): an encoder of words and one of regions, trained to find each other."""
