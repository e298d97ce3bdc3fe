"""Measures an encoder under the paper's protocols. A trained evaluation is a task of training's loop."""
