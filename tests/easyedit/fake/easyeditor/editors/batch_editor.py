from enum import Enum


class BatchEditor(Enum):
    MEMIT = "MEMIT"

    @staticmethod
    def is_batchable_method(alg_name):
        return alg_name == BatchEditor.MEMIT.value
