"""GAN Dissection (Bau et al., ICLR 2019): which units paint which concept, and what happens without them."""
