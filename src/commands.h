/* The subcommands. argv[0] is the subcommand's name. Each returns an exit status. */
#pragma once

enum { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

int command_serve(int argc, char **argv);    /* serve.c */
int command_keys(int argc, char **argv);     /* keys.c */
int command_teams(int argc, char **argv);    /* teams.c */
int command_train(int argc, char **argv);    /* train.c; 143 after SIGTERM */
int command_pretrain(int argc, char **argv); /* pretrain.c; 143 after SIGTERM */
int command_convert(int argc, char **argv);
int command_generate(int argc, char **argv); /* generate.c */
