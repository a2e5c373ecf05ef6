"""The examples at the end of each command's help."""

EXAMPLES = {
    "pick": (
        "gtpick-rt pick micrographs/ --out picks",
        "gtpick-rt pick 'mics/*.mrc' --out picks --diameter 160 --overlays",
        "gtpick-rt pick CtfFind/job003/micrographs_ctf.star --out picks",
        "gtpick-rt pick micrographs/ --out picks --watch --stop-after-idle 3600",
        "gtpick-rt pick micrographs/ --out picks --gpus 0,1,2,3",
    ),
    "check": (
        "gtpick-rt check micrographs/",
        "gtpick-rt check 'mics/*.tif' --pixel-size 0.85",
    ),
    "convert": (
        "gtpick-rt convert picks --formats cbox,csv",
        "gtpick-rt convert picks --formats box --box-size 256",
    ),
    "rethreshold": ("gtpick-rt rethreshold picks --threshold 0.6",),
    "models": ("gtpick-rt models", "gtpick-rt models mine/model.onnx", "gtpick-rt models --json"),
    "monitor": ("gtpick-rt monitor picks", "gtpick-rt monitor picks --port 8080 --host 0.0.0.0"),
    "report": ("gtpick-rt report picks", "gtpick-rt report picks --out session.html"),
    "evaluate": (
        "gtpick-rt evaluate picks/ labels/ --diameter 160 --pixel-size 1.5",
        "gtpick-rt evaluate picks/ labels/ --diameter 107 --plot curve.png",
    ),
    "simulate": ("gtpick-rt simulate simulated/ --count 3 --snr 0.05",),
    "train": (
        "gtpick-rt train runs/first --steps 3000",
        "gtpick-rt train runs/ours --steps 3000 --real apoferritin/ --real ice/",
    ),
    "export": (
        "gtpick-rt export runs/first/weights.safetensors first.onnx",
        "gtpick-rt export runs/first/weights.safetensors first.onnx --precision fp16",
        "gtpick-rt export gtpick-nano server/ --to triton",
    ),
    "adapt": ("gtpick-rt adapt micrographs/ --out adapted.onnx",),
    "finetune": ("gtpick-rt finetune a.mrc b.mrc --labels mine/ --diameter 160 --out mine.onnx",),
    "doctor": ("gtpick-rt doctor", "gtpick-rt doctor --model mine.onnx"),
    "selftest": ("gtpick-rt selftest --out selftest.json", "gtpick-rt selftest --backend tensorrt --device 1"),
    "bench": (
        "gtpick-rt bench",
        "gtpick-rt bench micrographs/ --diameter 160 --count 20 --plot bench.png",
        "gtpick-rt bench --compare cpu.json openvino.json",
    ),
    "build": (
        "gtpick-rt build",
        "gtpick-rt build mine.onnx --backend tensorrt-rtx",
        "gtpick-rt build --engine nano.engine",
    ),
    "relion": (
        "gtpick-relion --o External/job010/ --in_mics Select/job009/micrographs.star",
        "gtpick-relion --o External/job010/ --in_mics mics.star --diameter 160",
    ),
}
"""By the command's name; as typed, a line each."""
