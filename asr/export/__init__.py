"""Export and import: models for other runtimes, and weights of other programs.

In:  a bundle; or a safetensors file with the state dict of a plain torch model.
Out: an ONNX file that needs neither Python nor torch; or a bundle.
Start with `onnx.export_onnx` or `state_dict.import_state_dict`.

    onnx           a bundle as one ONNX file, float32 or with 8-bit weights
    onnx_graph     builds an ONNX graph, one call per operator (internal)
    onnx_layers    layers of torch as operators (internal)
    onnx_features  samples to normalized features as a graph (internal)
    onnx_model     the acoustic model as a graph (internal)
    onnx_encoder   its pretrained encoder as a graph (internal)
    onnx_waveform  what only encoders of waveforms have (internal)
    state_dict     the weights of an LSTM or GRU stack with a linear layer as a bundle
"""

__all__ = ["onnx", "state_dict"]
