"""Settings against the machine that the service starts on."""

from __future__ import annotations

import kernels
from app.settings import Settings, SettingsError


def check_machine(settings: Settings) -> None:
    """Raises SettingsError for settings that this machine cannot meet."""
    wanted = settings.instruction_set
    if wanted is None:
        return
    usable = {
        name
        for workload in kernels.workloads()
        for kernel in kernels.available_kernels(workload)
        for name in kernels.instruction_sets(workload, kernel)
    }
    if wanted not in usable:
        raise SettingsError(
            "HOTLOOP_INSTRUCTION_SET must be one that a kernel has on this machine: "
            f"{', '.join(sorted(usable)) or 'none'} (got {wanted}). Unset it for the best."
        )
