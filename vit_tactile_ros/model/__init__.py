"""The network: attention, the staged ViT, its checkpoint. Imports torch only."""
