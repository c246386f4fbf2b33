#!/bin/bash
# Writes FOLDER/models.config with every model in FOLDER, unless there is one. Bash alone: TensorFlow Serving's image has no Python.
#   list_models FOLDER
set -euo pipefail
shopt -s nullglob
cd "$1"
[ ! -e models.config ] || exit 0
{
    echo "model_config_list {"
    for model in */; do
        name=${model%/}
        versions=("$name"/[0-9]*/saved_model.pb "$name"/[0-9]*/saved_model.pbtxt)
        # The names that the embedded server takes for models; they need no quoting in the file.
        if [[ ${#versions[@]} -gt 0 && $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]]; then
            printf '  config { name: "%s" base_path: "%s/%s" model_platform: "tensorflow" }\n' "$name" "$PWD" "$name"
        fi
    done
    echo "}"
} >models.config
