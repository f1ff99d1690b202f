"""How a target is named."""

from latbench.target import Precision, Runtime, Target


def test_its_options_name_the_accelerator_unless_it_is_the_cpu() -> None:
    target = Target(device="pixel-6", runtime=Runtime.TFLITE, precision=Precision.FP32, threads=2)
    named = "--device pixel-6 --runtime tflite --precision fp32 --threads 2"
    assert target.arguments == named
    on_gpu = target.model_copy(update={"accelerator": "gpu"})
    assert on_gpu.arguments == f"{named} --accelerator gpu"


def test_its_text_counts_threads_and_cores() -> None:
    target = Target(
        device="host", runtime=Runtime.TFLITE, precision=Precision.FP32, threads=2, cores=(4, 5)
    )
    assert str(target) == "host, tflite fp32 on cpu, 2 threads, cores 4,5"
    one = target.model_copy(update={"threads": 1, "cores": (4,)})
    assert str(one) == "host, tflite fp32 on cpu, 1 thread, core 4"
