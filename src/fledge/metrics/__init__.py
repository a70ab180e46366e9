"""(façade to be written)"""
