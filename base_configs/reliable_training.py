# What a training run of days depends on; docs/reliability.md says what each hook promises.
# `AtomicCheckpointHook` goes with them, in the `default_hooks` of the configs.
custom_hooks = [
    dict(type='FineTunedCheckpointHook'),
    dict(type='ExactResumeHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='TerminationHook'),
    dict(type='HeartbeatHook'),
]
