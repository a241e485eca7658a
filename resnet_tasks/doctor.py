"""`resnet-tasks doctor`: what this installation has and lacks."""


def doctor() -> list[str]:
    """What this installation is and has, a line a fact: versions, devices, memory, recipes."""
    import tensorflow as tf

    from resnet_tasks.data.pictures import free_memory
    from resnet_tasks.engine.run_folder import environment
    from resnet_tasks.recipes import find

    facts = environment()
    gpus = tf.config.list_physical_devices("GPU")
    return [
        f"Python {facts['python']} on {facts['platform']}",
        f"{facts['cores']} cores of {facts['processor']}",
        *(f"{name} {version}" for name, version in facts["packages"].items()),
        f"Keras backend: {facts['keras_backend']}",
        f"{len(gpus)} GPUs" + "".join(f", {gpu.name}" for gpu in gpus),
        f"{free_memory() / 2**30:.1f} GiB of memory free",
        f"{len(find.names())} recipes in {find.folder()}",
    ]
