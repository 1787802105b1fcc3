"""Making transformers' Auto classes know BEiT-3 (extra ``[hf]``).

Importing this registers nothing and loads nothing; `register` does.
"""

from __future__ import annotations

from imglish.errors import ConfigError


def register() -> None:
    """Make transformers know ``imglish-beit3``; calling it again changes nothing.

    After it ``AutoConfig``, ``AutoModel`` and ``AutoProcessor`` load what `hub.pretrained.save_pretrained`
    wrote, from a folder or from the Hub, without ``trust_remote_code``.

    Raises:
        ConfigError: transformers is not installed.
    """
    try:
        from transformers import AutoConfig, AutoModel, AutoProcessor
    except ImportError as error:
        raise ConfigError("imglish.hf needs transformers; pip install 'imglish[hf]'") from error
    from imglish.hf.configuration import ImglishBeit3Config
    from imglish.hf.model import ImglishBeit3Model
    from imglish.hf.processor import ImglishBeit3Processor

    AutoConfig.register(ImglishBeit3Config.model_type, ImglishBeit3Config, exist_ok=True)
    AutoModel.register(ImglishBeit3Config, ImglishBeit3Model, exist_ok=True)
    AutoProcessor.register(ImglishBeit3Config, ImglishBeit3Processor, exist_ok=True)
