"""Tasks on images: fit, inpaint, Poisson, editing, completion by a hypernetwork."""
