"""GAN Dissection (Bau et al., ICLR 2019): which units of a generator paint what, and what happens without them."""
