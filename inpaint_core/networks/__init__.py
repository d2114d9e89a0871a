"""The networks that fill holes, one file each; a network is rebuilt from its checkpoint alone."""
