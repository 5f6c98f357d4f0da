"""The format of `--help`: settings as they are typed, with their defaults."""

from argparse import Action

from jsonargparse import DefaultHelpFormatter

from saliency_gan.cli.values import WITH_COMMAS, place, shown


class HelpFormatter(DefaultHelpFormatter):
    """Shows settings as `--skip-existing {true,false}` with their help texts, instead of Python types."""

    def _format_action_invocation(self, action: Action) -> str:
        text = super()._format_action_invocation(action)
        if not action.option_strings:
            return text
        flags = ", ".join(flag.replace("_", "-") for flag in action.option_strings)
        hint = getattr(action, "_typehint", None)
        if hint is None or action.dest == "config":
            return flags + (f" {action.metavar}" if action.metavar else "")
        return f"{flags} {WITH_COMMAS.get(action.dest) or place(hint)}"

    def _get_help_string(self, action: Action) -> str:
        about = action.help or ""
        if not action.option_strings or getattr(action, "_typehint", None) is None or action.dest == "config":
            return about
        default = "" if action.default is None else f" (default: {shown(action.default)})"
        return f"{about}{default}".replace("%", "%%")
