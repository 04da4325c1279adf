# Compiles base, format and the plain kernels with the cross compiler for arm64. Nothing is linked, so only the
# libraries' headers are needed: those of this machine serve, searched last (OpenSSL's configuration lies in a
# folder of the machine's kind, and is the same on all 64-bit ones).
#   cmake -D SOURCE_DIR=... -D WORK_DIR=... -P arm64.cmake
cmake_minimum_required(VERSION 3.25)

find_program(compiler aarch64-linux-gnu-g++)
if(NOT compiler)
  message("SKIPPED: aarch64-linux-gnu-g++ is missing (Debian package g++-aarch64-linux-gnu)")
  return()
endif()
find_program(ccache ccache)
if(ccache)
  set(launcher -D CMAKE_CXX_COMPILER_LAUNCHER=${ccache})
endif()
file(GLOB openssl_configuration /usr/include/*-linux-gnu/openssl/opensslconf.h)
list(TRANSFORM openssl_configuration REPLACE "/openssl/opensslconf.h" "")
list(TRANSFORM openssl_configuration PREPEND "-idirafter ")
execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR} -G Ninja
    -D SLUICE_CORE_ONLY=ON -D SLUICE_WERROR=ON
    -D CMAKE_SYSTEM_NAME=Linux -D CMAKE_SYSTEM_PROCESSOR=aarch64 -D CMAKE_CXX_COMPILER=${compiler}
    -D CMAKE_BUILD_TYPE=Debug -D CMAKE_CXX_FLAGS_DEBUG=-O0 ${launcher}
    -D "CMAKE_CXX_FLAGS=${openssl_configuration}"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK_DIR} COMMAND_ERROR_IS_FATAL ANY)
