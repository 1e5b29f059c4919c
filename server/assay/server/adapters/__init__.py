"""The outside behind the domain's ports: SQL, Arrow files, FAISS, ONNX Runtime, torch. Wired only by the app."""
