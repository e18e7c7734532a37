"""The tools an agent lacks, built and proved at run time.

    need ─ spec ─ cases ─ code ─ check ─ trial in the sandbox ─ library ─ SandboxedTool

Of the orchestrator the package imports only its ground floor. It is given a model as `complete`, and reports
its steps through `emit`. Names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolsmith.build import BuildStep as BuildStep
    from toolsmith.build import CasesWritten as CasesWritten
    from toolsmith.build import CodeFaulty as CodeFaulty
    from toolsmith.build import CodeWritten as CodeWritten
    from toolsmith.build import SpecWritten as SpecWritten
    from toolsmith.build import TrialRan as TrialRan
    from toolsmith.build import adopt_edit as adopt_edit
    from toolsmith.build import build_tool as build_tool
    from toolsmith.built import BuiltTool as BuiltTool
    from toolsmith.built import CaseResult as CaseResult
    from toolsmith.built import FunctionSignature as FunctionSignature
    from toolsmith.built import MutantResult as MutantResult
    from toolsmith.built import Origin as Origin
    from toolsmith.built import PropertyResult as PropertyResult
    from toolsmith.built import TrialReport as TrialReport
    from toolsmith.errors import CasesFaulty as CasesFaulty
    from toolsmith.errors import LibraryError as LibraryError
    from toolsmith.errors import PackagesUnavailable as PackagesUnavailable
    from toolsmith.errors import PermissionRefused as PermissionRefused
    from toolsmith.errors import ReplyFaulty as ReplyFaulty
    from toolsmith.errors import SpecFaulty as SpecFaulty
    from toolsmith.errors import ToolDisabled as ToolDisabled
    from toolsmith.errors import ToolEdited as ToolEdited
    from toolsmith.errors import ToolNotBuilt as ToolNotBuilt
    from toolsmith.errors import ToolQuarantined as ToolQuarantined
    from toolsmith.errors import ToolsmithError as ToolsmithError
    from toolsmith.library import Library as Library
    from toolsmith.permissions import Permissions as Permissions
    from toolsmith.proof.cases import Property as Property
    from toolsmith.proof.cases import Suite as Suite
    from toolsmith.proof.checker import check as check
    from toolsmith.proof.trial import try_tool as try_tool
    from toolsmith.smolagents_tools import SandboxedTool as SandboxedTool
    from toolsmith.spec import Need as Need
    from toolsmith.spec import ToolSpec as ToolSpec

_NAMES = {
    "build": "BuildStep CasesWritten CodeFaulty CodeWritten SpecWritten TrialRan adopt_edit build_tool",
    "built": "BuiltTool CaseResult FunctionSignature MutantResult Origin PropertyResult TrialReport",
    "errors": "CasesFaulty LibraryError PackagesUnavailable PermissionRefused ReplyFaulty SpecFaulty "
    "ToolDisabled ToolEdited ToolNotBuilt ToolQuarantined ToolsmithError",
    "library": "Library",
    "permissions": "Permissions",
    "proof.cases": "Property Suite",
    "proof.checker": "check",
    "proof.trial": "try_tool",
    "smolagents_tools": "SandboxedTool",
    "spec": "Need ToolSpec",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'toolsmith' has no attribute {name!r}")
    return getattr(import_module(f"toolsmith.{_HOMES[name]}"), name)
