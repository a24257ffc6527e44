"""What is in a picture and how it lies: boxes, masks and relations, from COCO's instances and stuff."""
