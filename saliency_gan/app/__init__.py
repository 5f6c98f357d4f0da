"""The local web page that cuts out photos and moves images along directions."""
