# 64-bit Arm Linux by Zig's compiler, which brings headers and stubs of every glibc:
#
#     python3 -m venv zig && zig/bin/pip install ziglang==0.17.1
#     cmake --preset arm64-linux -DLATBENCH_ZIG_PYTHON=$PWD/zig/bin/python
#
# Without LATBENCH_ZIG_PYTHON the python3 that is found first must have ziglang.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

# CMake configures its trial projects by this file too, and they see only what is named here.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LATBENCH_ZIG_PYTHON)
if(NOT LATBENCH_ZIG_PYTHON)
  find_program(LATBENCH_ZIG_PYTHON python3 REQUIRED)
endif()

set(CMAKE_C_COMPILER "${LATBENCH_ZIG_PYTHON}" -m ziglang cc -target aarch64-linux-gnu.2.17)
set(CMAKE_C_ARCHIVE_CREATE "\"${LATBENCH_ZIG_PYTHON}\" -m ziglang ar qcs <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "")
