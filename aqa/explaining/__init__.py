"""Why a video has its score: parts of streams and of clips, and what another stream would change."""
