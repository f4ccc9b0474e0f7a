"""Settings against the machine that the service starts on."""

from __future__ import annotations

import kernels
from app.errors import StoreError
from app.settings import Settings, SettingsError
from app.tasks.folder import DataFolder
from app.tasks.store import open_store


def check_machine(settings: Settings) -> None:
    """Raises SettingsError for settings that this machine cannot meet: an instruction set that no
    kernel has here, a data folder that cannot be used. Blocking; called before the server starts.
    """
    _check_instruction_set(settings)
    try:
        DataFolder(settings.data_dir)
    except StoreError as error:
        raise SettingsError(f"HOTLOOP_DATA_DIR ({settings.data_dir}): {error}") from error
    try:
        open_store(settings.store_location).close()
    except StoreError as error:
        if settings.database_url is None:
            raise SettingsError(f"HOTLOOP_DATA_DIR ({settings.data_dir}): {error}") from error
        raise SettingsError(f"HOTLOOP_DATABASE_URL: {error}") from error


def _check_instruction_set(settings: Settings) -> None:
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
